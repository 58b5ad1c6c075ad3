"""The files beside an artifact: keys that deployed readers depend on, and what they hold."""

import csv
import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx_files import small_run, sounds
from run_to_export import CLASSES, SPEC

from birdnet_fs import schema
from birdnet_fs.export import sidecars
from birdnet_fs.export.convert_and_verify import ParityReport
from birdnet_fs.export.parity.compare import compare_outputs
from birdnet_fs.export.parity.embeddings import compare_embeddings, device_enrollment
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.inference.calibration.maps import CalibrationMaps
from birdnet_fs.inference.calibration.stored import Calibration, ClassThreshold, write_calibration
from birdnet_fs.runs.run import Run

N = len(EDGE_NAMES) + 8
# keys are a format: readers on devices, and other programs, read them
KEYS = {
    *("format", "model", "sha256", "runtime", "classes", "sample_rate_hz", "segment_s", "input", "input_shape", "axes"),
    "fft",
    *("output", "activation", "one_label", "logit_scale", "n_constant", "precision", "frontend", "versions"),
}
FORM_KEYS = ["format", "input", "precision", "batch", "answers", "outputs", "axes", "calibrated"]
RUNTIME_KEYS = {
    *("runtime", "precision", "source", "n_segments", "n_edges", "max_abs", "mean_abs", "max_abs_logit", "max_abs_at"),
    "max_abs_tolerance",
    *("top1_agreement", "auroc_reference", "auroc_artefact", "by_batch", "faults", "budget"),
}
BUDGET_KEYS = {"max_abs", "mean_abs", "tie", "top1", "auroc", "device", "reason", "of_spread", "real_only"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return small_run(tmp_path_factory.mktemp("runs"), "cnn/tiny")


def report_on(spec: ExportSpec, embeddings: bool = False) -> ParityReport:
    random = np.random.default_rng(0)
    logits, rows = (random.normal(size=(N, n)).astype(np.float32) for n in (3, 48))
    inputs = ParityInputs(np.zeros((N, 4), np.float32), None, "made")
    numbers = compare_outputs(logits, logits, inputs, spec.precision, "softmax")
    if embeddings:
        numbers = numbers.with_embeddings(compare_embeddings(rows, rows, spec.precision, len(EDGE_NAMES)))
    return ParityReport(spec, {"a runtime": numbers}, edges=[logits[: len(EDGE_NAMES)]])


def write(run: Run, folder: Path, spec: ExportSpec, *, embeddings: bool = False) -> dict:
    artifact = folder / "mine.tflite"
    artifact.write_bytes(b"network")
    golden = sidecars.Golden(sounds(2), [np.zeros((2, 3), np.float32), np.ones((2, 48), np.float32)])
    enrollment = device_enrollment(run) if embeddings else None
    report = report_on(spec, embeddings)
    sidecars.write_sidecars(artifact, run, spec=spec, parity_report=report, golden=golden, enrollment=enrollment)
    return json.loads((folder / "mine.json").read_text(encoding="utf-8"))


def test_sidecar_of_waveforms_has_its_keys(run: Run, tmp_path: Path) -> None:
    found = write(run, tmp_path, ExportSpec(output_kind="probabilities"))
    assert set(found) == KEYS
    assert found["sha256"] == hashlib.sha256(b"network").hexdigest() and found["classes"] == list(CLASSES)
    assert found["input_shape"] == [1, SPEC.n_samples] and found["output"] == "probabilities"
    assert schema.FrontEnd.from_artifact(found["frontend"]) == SPEC
    assert {"normalise", "normalise_when", "normalise_eps"} <= set(found["frontend"])
    with np.load(tmp_path / "mine_golden.npz", allow_pickle=False) as golden:
        assert set(golden.files) == {"waveforms", "probabilities", "tolerance"}
        assert np.array_equal(golden["waveforms"] / np.float32(32768), sounds(2))
    lines = (tmp_path / "mine_Labels.txt").read_text(encoding="utf-8").splitlines()
    assert lines == ["Turdus merula_Common Blackbird", "toad_toad", "Parus major_Great Tit"]


def test_sidecar_of_a_calibrated_run_has_its_calibration(run: Run, tmp_path: Path) -> None:
    calibrated = tmp_path / "run"
    shutil.copytree(run.path, calibrated)
    maps = CalibrationMaps(np.array([0.5, 2.0, 1.0]), np.zeros(3))
    stored = Calibration(CLASSES, maps, {0.9: (ClassThreshold(0.7), ClassThreshold(None), ClassThreshold(0.2))})
    write_calibration(calibrated, stored)
    found = write(dataclasses.replace(run, path=calibrated), tmp_path, ExportSpec())
    assert set(found) == KEYS | {"calibration"} and found["calibration"] == stored.to_json()
    with open(tmp_path / "mine_Thresholds.csv", newline="", encoding="utf-8") as file:
        assert [row["threshold"] for row in csv.DictReader(file)] == ["0.7", "", "0.2"]


def test_sidecar_of_features_and_embeddings_has_its_keys(run: Run, tmp_path: Path) -> None:
    found = write(run, tmp_path, ExportSpec(input="features"), embeddings=True)
    assert set(found) == KEYS | {"embeddings", "frontend_sha256"}
    assert set(found["embeddings"]) == {"output", "width", "enrolment"}
    assert set(found["embeddings"]["enrolment"]) == {"distance", "normalisation", "scale", "encoder", "sha256"}
    with np.load(tmp_path / "mine_golden.npz", allow_pickle=False) as golden:
        assert set(golden.files) == {"waveforms", "logits", "tolerance", "embeddings", "embeddings_tolerance"}
    with np.load(tmp_path / "mine_frontend.npz", allow_pickle=False) as constants:
        assert {name: constants[name].shape for name in constants.files} == {"window": (512,), "bands": (32, 257)}
    with np.load(tmp_path / "mine_enrolment.npz", allow_pickle=False) as stored:
        assert set(stored.files) <= {"centre", "labels", "embeddings"}


def test_parity_json_has_its_keys_and_keeps_reports_of_files_that_exist(tmp_path: Path) -> None:
    earlier, now = tmp_path / "earlier", tmp_path / "now"
    earlier.mkdir()
    now.mkdir()
    (earlier / "old.tflite").write_bytes(b"old")
    reports = {name: report_on(ExportSpec()) for name in ("old.tflite", "gone.tflite")}
    sidecars.write_parity(earlier, reports, earlier=earlier)
    new = report_on(ExportSpec(output_kind="log_odds"), embeddings=True)
    sidecars.write_parity(now, {"new.tflite": new}, earlier=earlier)
    found = json.loads((now / "parity.json").read_text(encoding="utf-8"))
    assert set(found) == {"old.tflite", "new.tflite"}
    assert set(found["new.tflite"]) == {"form", "runtimes", "no_second_route"}
    assert list(found["new.tflite"]["form"]) == FORM_KEYS and found["new.tflite"]["form"]["answers"] == "log_odds"
    numbers = found["new.tflite"]["runtimes"]["a runtime"]
    assert set(numbers) == RUNTIME_KEYS | {"embeddings"} and set(numbers["budget"]) == BUDGET_KEYS
    embeddings = numbers["embeddings"]
    assert set(embeddings) == {"width", "spread", "max_error", "mean_error", "faults", "budget"}
    assert set(embeddings["budget"]) == {"max_error", "mean_error", "device", "reason"}


@pytest.mark.parametrize("settings", [{}, {"resize": (50, 64)}])
def test_frontend_constants_hold_resize_matrices_only_where_needed(settings: dict) -> None:
    found = sidecars.frontend_constants(schema.FrontEnd(segment_s=1.0, **settings))
    assert ("resize_frames" in found, "resize_bands" in found) == (bool(settings), bool(settings))
    assert all(value.dtype == np.float64 for value in found.values())
