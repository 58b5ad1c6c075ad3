"""A calibration as a part of the exported file: programs without the sidecar get calibrated scores."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tolerances
from installed import need
from on_runtime import run_tflite
from onnx_files import own_answers, small_run, sounds
from run_to_export import CLASSES
from scipy.special import expit, logsumexp

from birdnet_fs.export import export as exporter
from birdnet_fs.export.parity.compare import compare_outputs, expected_outputs
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.export.targets.check import check_target, export_spec
from birdnet_fs.inference.calibration.maps import CalibrationMaps
from birdnet_fs.inference.calibration.stored import Calibration, ClassThreshold, write_calibration
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs.run import Run, load_run

SLOPE, OFFSET = np.array([0.4, 1.7, 3.0]), np.array([-2.0, 0.5, 6.0])
STEPS = {0: (np.array([-1.0, 2.0]), np.array([-3.0, 3.0]))}
SHOWN = ClassThreshold(0.7, 0.93, 0.85, 0.98, 0.5, 40, 12)


def calibrated_run(folder: Path, *, steps: bool = False, **data: bool) -> Run:
    run = small_run(folder, "cnn/tiny", **data)
    maps = CalibrationMaps(SLOPE, OFFSET, STEPS if steps else {})
    write_calibration(run.path, Calibration(CLASSES, maps, {0.9: (SHOWN,) * 3}))
    return load_run(run.path)


def calibrated_log_odds(run: Run) -> np.ndarray:
    """By the definition: slope x log p / (1 - p) + offset, from the logits of Keras."""
    logits = own_answers(run)[0].astype(np.float64)
    if not run.multi_label:
        others = [logsumexp(np.delete(logits, c, axis=1), axis=1) for c in range(3)]
        logits = logits - np.stack(others, axis=1)
    return SLOPE * logits + OFFSET


def largest_error(given: np.ndarray, wanted: np.ndarray, run: Run) -> float:
    """In units of the logits: the slope, and that of the log-odds of a softmax, enlarge their rounding."""
    return float((np.abs(given - wanted) / (SLOPE * (1 if run.multi_label else 2))).max())


@pytest.mark.parametrize("multi_label", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_tflite_file_itself_gives_calibrated_log_odds(tmp_path, monkeypatch, multi_label) -> None:
    need("tensorflow")
    run, said = calibrated_run(tmp_path, multi_label=multi_label), []
    monkeypatch.setattr(exporter, "say", said.append)
    [made] = exporter.export_run(run, tmp_path / "out", input="waveform", n_segments=2)
    assert any("part of the file" in line for line in said)
    wanted = calibrated_log_odds(run)
    np.save(tmp_path / "x.npy", sounds(8))
    [found] = run_tflite(made.path, tmp_path / "x.npy", tmp_path / "y.npz")
    assert largest_error(found, wanted, run) <= tolerances.EXPORT_FP32_LOGITS
    engine = open_engine(made.path)  # which applies the sidecar: nothing twice
    assert largest_error(engine.logits(sounds(8)), wanted, run) <= tolerances.EXPORT_FP32_LOGITS
    assert engine.calibration.thresholds == {0.9: (SHOWN,) * 3}
    sidecar = json.loads(made.path.with_suffix(".json").read_text())
    assert (sidecar["output"], sidecar["activation"]) == ("logits", "sigmoid")
    assert sidecar["calibration"]["maps"] == [{"slope": 1.0, "offset": 0.0}] * 3
    with open(tmp_path / "out" / "run_Thresholds.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(abs(float(row["model_threshold"]) - 0.7) < 1e-9 for row in rows)  # as the file gives it
    with np.load(tmp_path / "out" / "run_golden.npz") as golden:
        again = calibrated_of(run, golden["waveforms"] / np.float32(32768))
        assert np.abs(golden["logits"] - again).max() <= golden["tolerance"]


def calibrated_of(run: Run, waveforms: np.ndarray) -> np.ndarray:
    return open_engine(run.path).logits(waveforms.astype(np.float32))


def test_outputs_without_the_calibration_exceed_the_tolerance() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (len(EDGE_NAMES) + 20, 3))
    inputs, maps = ParityInputs(np.zeros((len(logits), 4), np.float32), None, "made"), CalibrationMaps(SLOPE, OFFSET)
    for kind, activation in (("logits", "sigmoid"), ("log_odds", "softmax"), ("probabilities", "sigmoid")):
        right, plain = (expected_outputs(logits, kind, activation, each) for each in (maps, None))
        assert not compare_outputs(logits, right, inputs, "fp32", activation, output_kind=kind, maps=maps).failures
        assert compare_outputs(logits, plain, inputs, "fp32", activation, output_kind=kind, maps=maps).failures


@pytest.mark.parametrize("multi_label", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_onnx_and_torchscript_files_give_calibrated_probabilities(tmp_path, multi_label) -> None:
    need("onnxruntime")
    import onnxruntime
    import torch
    from onnx_files import write

    run = calibrated_run(tmp_path, multi_label=multi_label)
    maps = {"slope": SLOPE.tolist(), "offset": OFFSET.tolist()}
    changes = {"formats": ["onnx", "torchscript"], "output_kind": "probabilities", "maps": maps}
    folder = write(run, tmp_path / "out", **changes)
    wanted = expit(calibrated_log_odds(run))
    session = onnxruntime.InferenceSession(folder / "fp32.onnx")
    found, embeddings = session.run(None, {"waveform": sounds(8)})
    assert [each.name for each in session.get_outputs()] == ["predictions", "embeddings"]
    assert np.abs(found - wanted).max() <= SLOPE.max() * tolerances.EXPORT_FP32_LOGITS
    assert np.abs(embeddings - own_answers(run)[1]).max() <= tolerances.EXPORT_FP32_LOGITS
    assert session.get_modelmeta().custom_metadata_map["activation"] == "sigmoid"
    scripted, _ = torch.jit.load(folder / "fp32.pt")(torch.from_numpy(sounds(8)))
    assert np.abs(scripted.numpy() - wanted).max() <= SLOPE.max() * tolerances.EXPORT_FP32_LOGITS


def test_steps_and_programs_with_a_way_of_their_own_keep_the_calibration_in_the_sidecar(tmp_path) -> None:
    from birdnet_fs.export.calibrated_output import calibration_sentence, sidecar_calibration

    run = calibrated_run(tmp_path, steps=True, multi_label=True)
    spec = export_spec("tflite", run)
    assert not spec.calibrated and sidecar_calibration(run, spec).maps.steps.keys() == {0}
    assert "isotonic" in calibration_sentence(run, spec)
    write_calibration(run.path, Calibration(CLASSES, CalibrationMaps(SLOPE, OFFSET)))
    assert export_spec("tflite", run).calibrated
    assert "in its own way" in calibration_sentence(run, ExportSpec())  # as for a program that computes the features
    assert calibration_sentence(small_run(tmp_path / "plain", "cnn/tiny"), ExportSpec()) == ""


def test_calibrated_classes_of_a_softmax_do_not_share_their_confidence(tmp_path) -> None:
    run = calibrated_run(tmp_path)
    assert export_spec("tflite", run).activation("softmax") == "sigmoid"
    assert check_target("tflite", run) == []
