"""Which rows are looked at for their sensitivity, and that the tolerance follows it."""

import numpy as np
import pytest

from birdnet_fs.export.parity.compare import compare_outputs, expected_outputs
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs
from birdnet_fs.export.parity.reference import Reference
from birdnet_fs.export.parity.sensitivity import N_ROWS, with_sensitivity
from birdnet_fs.export.parity.tolerances import TOLERANCES, USUAL_UNCERTAINTY

N, LIMIT = 60, TOLERANCES["fp32"].max_abs
FIRST = len(EDGE_NAMES)


@pytest.fixture
def reference() -> tuple[Reference, list[int]]:
    logits, asked = np.random.default_rng(0).normal(0, 3, (FIRST + N, 3)).astype(np.float32), list[int]()

    def sensitivity(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        return np.full(len(rows), 3 * USUAL_UNCERTAINTY)

    return Reference([logits], np.full(FIRST, 1e-6), sensitivity), asked


def test_rows_beyond_a_third_of_the_tolerance_are_measured_and_no_others(reference) -> None:
    given, asked = reference
    artifact = given.outputs[0].astype(np.float64)
    assert not with_sensitivity(given, artifact, "logits", "softmax")[FIRST:].any() and not asked
    artifact[FIRST + 7, 1] += 0.4 * LIMIT
    artifact[FIRST + 9, 2] += 0.2 * LIMIT
    artifact[2, 0] += LIMIT  # a synthetic waveform, whose uncertainty is known
    artifact[FIRST + 11, 0] = np.nan
    uncertainty = with_sensitivity(given, artifact, "logits", "softmax")
    assert asked == [FIRST + 7]
    assert np.flatnonzero(uncertainty).tolist() == [*range(FIRST), FIRST + 7]


def test_the_share_is_one_of_the_tolerance_of_probabilities(reference) -> None:
    given, asked = reference
    artifact = expected_outputs(given.outputs[0], "probabilities", "sigmoid")
    artifact[FIRST + 3, 0] += 0.4 * LIMIT / 4  # the largest slope of a sigmoid
    with_sensitivity(given, artifact, "probabilities", "sigmoid")
    assert asked == [FIRST + 3]


def test_a_sensitive_segment_may_differ_by_more_and_a_wrong_file_may_not(reference) -> None:
    given, asked = reference
    logits, inputs = given.outputs[0], ParityInputs(np.zeros((FIRST + N, 8), np.float32), None, "run")
    one = logits.astype(np.float64)
    one[FIRST + 7, 1] += 2.5 * LIMIT
    assert compare_outputs(logits, one, inputs, "fp32", "softmax").failures
    uncertainty = with_sensitivity(given, one, "logits", "softmax")
    assert not compare_outputs(logits, one, inputs, "fp32", "softmax", numerical_uncertainty=uncertainty).failures
    all_rows = logits + 2.5 * LIMIT
    uncertainty = with_sensitivity(given, all_rows, "logits", "softmax")
    assert len(asked) == 1 + N_ROWS < N
    failures = compare_outputs(logits, all_rows, inputs, "fp32", "softmax", numerical_uncertainty=uncertainty).failures
    assert any("largest difference" in each for each in failures) and any("mean difference" in f for f in failures)
