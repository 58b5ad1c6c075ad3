"""Reference outputs of a run, against Keras itself."""

from pathlib import Path

import numpy as np
import pytest
import tolerances
from onnx_files import own_answers, small_run, sounds
from run_to_export import SPEC

from birdnet_fs import schema
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs
from birdnet_fs.export.parity.reference import calibration_features, logit_scale_of_run, reference_outputs
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.runs.run import Run


def test_reference_outputs_are_those_of_the_keras_model(tmp_path: Path) -> None:
    run, file = small_run(tmp_path, "cnn/tiny"), tmp_path / "features.npy"
    waveforms = sounds(8)
    found = reference_outputs(run, ParityInputs(waveforms, None, "made"), ["logits", "embedding"], file)
    for given, wanted in zip(found.outputs, own_answers(run), strict=True):
        assert given.dtype == np.float32 and np.ptp(wanted) > 0.5
        assert np.abs(given - wanted).max() <= tolerances.EXPORT_FP32_LOGITS
    assert np.array_equal(np.load(file), network_input(log_mel(waveforms, SPEC), SPEC).astype(np.float32))
    assert found.numerical_uncertainty.shape == (len(EDGE_NAMES),)
    assert (found.numerical_uncertainty <= tolerances.EXPORT_FP32_LOGITS).all()


def test_sensitivity_is_the_change_of_the_logits_by_a_rounding_of_the_waveform(tmp_path: Path) -> None:
    run, waveforms = small_run(tmp_path, "cnn/tiny"), sounds(8)
    waveforms[0] = 0
    found = reference_outputs(run, ParityInputs(waveforms, None, "made"), ["logits"])
    rows = np.array([6, 5, 0])  # the last is silence, which has no rounding
    changes = found.sensitivity(rows)
    assert changes[2] == 0 and (changes[:2] > 0).all()
    # the same by Keras, with other draws of the noise: the largest of many is of the same size
    model, noise = run.build_model(), np.random.default_rng(9).standard_normal((20, *waveforms.shape[1:]))
    for row, change in zip(rows[:2], changes[:2], strict=True):
        moved = waveforms[row] + np.abs(waveforms[row]).max() * 2.0**-24 * noise
        logits = np.asarray(model(network_input(log_mel(moved, SPEC), SPEC)).detach())
        largest = np.abs(logits - found.outputs[0][row]).max()
        assert largest / 10 < change <= 2 * largest


def test_calibration_features_are_those_of_the_calibration_segments(tmp_path: Path) -> None:
    run, waveforms = small_run(tmp_path, "cnn/tiny"), sounds(5)
    for calibration, wanted in ((waveforms[:2], waveforms[:2]), (None, waveforms)):
        calibration_features(run, ParityInputs(waveforms, None, "made", calibration), tmp_path / "c.npy")
        assert np.array_equal(np.load(tmp_path / "c.npy"), log_mel(wanted, SPEC))


@pytest.mark.parametrize(
    ("head", "distance", "scale", "size"),
    [
        ("linear", "euclidean", 0.0, 1.0),
        ("prototypes", "cosine", 12.0, 12.0),
        ("prototypes", "euclidean", 0.1, 400.0),
        ("prototypes", "learned", 0.1, 400.0),
    ],
)
def test_logit_scale_is_that_of_cosines_or_the_largest_distance(head, distance, scale, size) -> None:
    experiment = schema.Experiment(model=schema.Model(head=head, distance=distance, logit_scale=scale))
    assert logit_scale_of_run(Run(Path(), experiment, ("a", "b")), np.array([[-400.0, 2.0]])) == size
