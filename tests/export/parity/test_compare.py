"""Comparison of an artifact with its run: what passes and what is reported."""

import numpy as np
import pytest
import scipy.special
import tolerances
from sklearn.metrics import roc_auc_score

from birdnet_fs.export.parity.compare import compare_outputs, expected_outputs
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs
from birdnet_fs.export.parity.tolerances import TOLERANCES

N, CLASSES = 40, 5


@pytest.fixture
def asked() -> tuple[ParityInputs, np.ndarray]:
    random = np.random.default_rng(3)
    logits = random.normal(0, 3, (len(EDGE_NAMES) + N, CLASSES)).astype(np.float32)
    targets = np.zeros((len(EDGE_NAMES) + N, CLASSES), np.float32)
    targets[np.arange(len(EDGE_NAMES), len(EDGE_NAMES) + N), np.arange(N) % CLASSES] = 1
    return ParityInputs(np.zeros((len(EDGE_NAMES) + N, 8), np.float32), targets, "run"), logits


def test_equal_outputs_pass(asked) -> None:
    probe, logits = asked
    result = compare_outputs(logits, logits.copy(), probe, "fp32", "softmax")
    assert not result.failures
    assert result.auroc_reference == result.auroc_artefact
    assert (result.n_segments, result.top1_agreement, result.max_abs) == (N, 1.0, 0.0)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_differences_just_over_the_tolerance_are_reported(asked, precision: str) -> None:
    probe, logits = asked
    spread = np.mean([np.std(logits[len(EDGE_NAMES) :, i].astype(np.float64)) for i in range(CLASSES)])
    allowed = TOLERANCES[precision].max_abs * (spread if precision in ("dynamic", "int8") else 1)
    other = logits.astype(np.float64)
    other[7, 2] += 1.1 * allowed
    assert "largest difference" in compare_outputs(logits, other, probe, precision, "sigmoid").failures[0]
    other[7, 2] -= 0.2 * allowed
    assert not [f for f in compare_outputs(logits, other, probe, precision, "sigmoid").failures if "largest" in f]


@pytest.mark.parametrize(("activation", "steepest"), [("sigmoid", 0.25), ("softmax", 0.5)])
def test_tolerance_of_probabilities_follows_the_slope_of_the_activation(asked, activation, steepest) -> None:
    probe, logits = asked
    right = 1 / (1 + np.exp(-logits.astype(np.float64)))
    if activation == "softmax":
        right = np.exp(logits.astype(np.float64))
        right /= right.sum(axis=1, keepdims=True)
    result = compare_outputs(logits, right, probe, "fp32", activation, output_kind="probabilities")
    assert not result.failures and result.max_abs < 1e-12 and result.auroc_artefact == result.auroc_reference
    assert compare_outputs(
        logits, logits, probe, "fp32", activation, output_kind="probabilities"
    ).failures  # the activation forgotten
    other = right.copy()
    other[9, 1] += 1.1 * steepest * TOLERANCES["fp32"].max_abs
    faults = compare_outputs(logits, other, probe, "fp32", activation, output_kind="probabilities").failures
    assert len(faults) == 1 and "largest difference of a probability" in faults[0]


def test_tolerance_of_log_odds_is_twice_that_of_logits(asked) -> None:
    probe, logits = asked
    right = expected_outputs(logits, "log_odds", "softmax")
    result = compare_outputs(logits, right, probe, "fp32", "softmax", output_kind="log_odds")
    assert not result.failures and result.auroc_artefact == result.auroc_reference
    real = scipy.special.softmax(logits[len(EDGE_NAMES) :].astype(np.float64), axis=1)
    known = roc_auc_score(probe.targets[len(EDGE_NAMES) :] > 0, real, average="macro")
    assert result.auroc_reference == pytest.approx(known, abs=tolerances.FLOAT64_SUMS)
    assert compare_outputs(
        logits, logits, probe, "fp32", "softmax", output_kind="log_odds"
    ).failures  # the logits as they are
    moved = logits.copy()
    moved[9] += TOLERANCES["fp32"].max_abs * np.where(np.arange(logits.shape[1]) == 1, 0.99, -0.99)
    assert not compare_outputs(
        logits, expected_outputs(moved, "log_odds", "softmax"), probe, "fp32", "softmax", output_kind="log_odds"
    ).failures
    other = right.copy()
    other[9, 1] += 2.2 * TOLERANCES["fp32"].max_abs
    faults = compare_outputs(logits, other, probe, "fp32", "softmax", output_kind="log_odds").failures
    assert len(faults) == 1 and "largest difference of a logit" in faults[0]


def test_other_batch_sizes_have_the_same_tolerance(asked) -> None:
    probe, logits = asked
    mixed = logits[:9][[1, 0, *range(2, 9)]]  # the rows of a batch in another order
    result = compare_outputs(logits, logits, probe, "fp32", "softmax", by_batch={3: mixed})
    assert len(result.failures) == 1 and "in batches of 3" in result.failures[0]
    assert not compare_outputs(logits, logits, probe, "fp32", "softmax", by_batch={3: logits[:9]}).failures


def test_permuted_classes_are_reported(asked) -> None:
    probe, logits = asked
    faults = " ".join(compare_outputs(logits, np.roll(logits, 1, axis=1), probe, "fp16", "softmax").failures)
    assert "best class agrees" in faults


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_nan_is_reported_with_its_segment(asked, value: float) -> None:
    probe, logits = asked
    other = logits.copy()
    other[EDGE_NAMES.index("silence"), 1] = value
    result = compare_outputs(logits, other, probe, "fp32", "softmax")
    assert "silence" in result.failures[0]
    result.to_json()


def test_a_constant_class_is_reported_even_when_both_agree(asked) -> None:
    probe, logits = asked
    logits[:, 4] = 0.25
    faults = compare_outputs(logits, logits.copy(), probe, "fp32", "softmax").failures
    assert len(faults) == 2 and "same output for every input" in faults[0]


def test_auroc_is_none_without_labels(asked) -> None:
    probe, logits = asked
    result = compare_outputs(logits, logits, ParityInputs(probe.waveforms, None, "aviary"), "fp32", "softmax")
    assert result.auroc_reference is None and not result.failures


def test_tolerance_grows_with_the_scale_of_cosines_beyond_30():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20, 3)).astype(np.float32)
    probe = ParityInputs(np.zeros((20, 10), np.float32), None, "made")
    other = logits.copy()
    other[7, 2] += 2 * TOLERANCES["fp32"].max_abs
    for scale, allowed in ((1.0, False), (30.0, False), (80.0, True)):
        result = compare_outputs(logits, other, probe, "fp32", "softmax", logit_scale=scale)
        assert (not result.failures) == allowed
        assert result.to_json()["budget"]["max_abs"] == pytest.approx(TOLERANCES["fp32"].max_abs * max(1, scale / 30))


def test_only_unknown_may_be_constant(asked) -> None:
    probe, logits = asked
    logits[:, -1] = 0.5
    assert "same output" in compare_outputs(logits, logits, probe, "fp32", "softmax").failures[0]
    assert not compare_outputs(logits, logits, probe, "fp32", "softmax", n_constant=1).failures
    logits[:, 0] = 0.5
    assert "same output" in compare_outputs(logits, logits, probe, "fp32", "softmax", n_constant=1).failures[0]


def test_tolerance_grows_for_segments_with_larger_logits_only(asked) -> None:
    probe, logits = asked
    logits[0] *= 300 / np.abs(logits[0]).max()
    budget = TOLERANCES["fp32"].max_abs
    for row, allowed in ((0, True), (7, False)):
        other = logits.astype(np.float64)
        other[row, 2] += 9 * budget
        result = compare_outputs(logits, other, probe, "fp32", "softmax")
        assert bool(result.failures) is not allowed
        assert result.to_json()["max_abs_at"] == result.max_abs_at == ("silence" if row == 0 else "real segment 4")
        assert result.max_abs_tolerance == pytest.approx(budget * (30 if allowed else 1), rel=1e-6)
        assert ("(silence; tolerance there 9.0e-03)" in str(result)) is allowed


def test_tolerance_is_at_least_the_numerical_uncertainty_of_the_run(asked) -> None:
    probe, logits = asked
    other = logits.astype(np.float64)
    other[0, 2] += 3 * TOLERANCES["fp32"].max_abs  # silence
    sure = np.zeros(len(EDGE_NAMES))
    assert compare_outputs(logits, other, probe, "fp32", "softmax", numerical_uncertainty=sure).failures
    unsure = np.array([TOLERANCES["fp32"].max_abs, 0, 0, 0])
    assert not compare_outputs(logits, other, probe, "fp32", "softmax", numerical_uncertainty=unsure).failures
    other[7, 2] += 3 * TOLERANCES["fp32"].max_abs  # a real segment
    assert (
        "real segment 4"
        in compare_outputs(logits, other, probe, "fp32", "softmax", numerical_uncertainty=unsure).failures[0]
    )


def test_int8_outputs_for_synthetic_segments_only_have_to_be_finite(asked) -> None:
    probe, logits = asked
    other = logits.copy()
    other[: len(EDGE_NAMES)] = 0.1 * logits[: len(EDGE_NAMES)] + 5  # saturated
    result = compare_outputs(logits, other, probe, "int8", "softmax", by_batch={3: other[:9]})
    assert not result.failures and result.max_abs == result.by_batch[3] == 0
    assert compare_outputs(logits, other, probe, "fp16", "softmax").failures
    other[1, 3] = np.nan
    assert "full_scale" in compare_outputs(logits, other, probe, "int8", "softmax").failures[0]
