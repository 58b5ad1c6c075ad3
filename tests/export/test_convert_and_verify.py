"""Parity reports: every runtime counts, and a second converter must agree."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tolerances
from receiving import receive
from run_to_export import edge_run_on, write_licensed_recordings

from birdnet_fs.export import export as exporter
from birdnet_fs.export.convert_and_verify import ParityReport
from birdnet_fs.export.parity.compare import compare_outputs
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.frontend.in_numpy import log_mel


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    return write_licensed_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def run(recordings: Path, tmp_path_factory):
    return edge_run_on(recordings, tmp_path_factory.mktemp("runs") / "edge")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
    """The run for the edge client, which reads bands first."""
    out = tmp_path_factory.mktemp("out")
    exporter.export_run(run, out, target="echo", n_segments=12, license="for everyone")
    return out


def test_mel_first_export_matches_the_run(run, recordings: Path, exported: Path) -> None:
    sidecar = json.loads((exported / "edge_echo.json").read_text(encoding="utf-8"))
    assert sidecar["input_shape"] == [1, 128, 313, 1] and sidecar["axes"] == "mel_first"
    done = receive("run_tflite.py", exported / "edge_echo.tflite", recordings / "4.wav", "--json")
    assert done.returncode == 0, done.stderr
    given = np.array(json.loads(done.stdout)["segments"][0]["logits"])
    waveform = soundfile.read(recordings / "4.wav", dtype="float32")[0][: run.frontend.n_samples]
    wanted = run.build_model().predict_on_batch(log_mel(waveform[None], run.frontend)[..., None])[0]
    assert np.abs(given - wanted).max() <= tolerances.EXPORT_FP32_LOGITS and np.ptp(wanted) > 0.3
    mapping = json.loads((exported / "class_mapping.json").read_text(encoding="utf-8"))
    assert mapping["classes"] == ["Turdus merula", "toad", "Parus major"]  # as that program calls them


def numbers(error: float, precision: str = "fp32"):
    random = np.random.default_rng(0)
    logits = random.normal(size=(len(EDGE_NAMES) + 8, 3)).astype(np.float32)
    probe = ParityInputs(np.zeros((len(logits), 4), np.float32), None, "made")
    return compare_outputs(logits, logits + np.float32(error), probe, precision, "softmax")


def test_one_bad_runtime_or_a_disagreeing_second_route_is_a_failure() -> None:
    right, wrong = numbers(0.0), numbers(0.5)
    assert not ParityReport(ExportSpec(), {"one": right, "other": right}, {"one": right}).failures
    assert "on other" in ParityReport(ExportSpec(), {"one": right, "other": wrong}).failures[0]
    assert "second route" in ParityReport(ExportSpec(), {"one": right}, {"one": wrong}).failures[0]
    in_half = ExportSpec(precision="fp16")  # the second converter must agree in fp32 only
    assert not ParityReport(in_half, {"one": numbers(0.0, "fp16")}, {"one": numbers(0.5, "fp16")}).failures


def test_report_is_plain_json_with_the_reason_for_no_second_route() -> None:
    text = json.dumps(ParityReport(ExportSpec(batch=None), {"one": numbers(np.nan)}).to_json(), allow_nan=False)
    found = json.loads(text)
    assert found["form"]["batch"] is None and "onnx2tf" in found["no_second_route"]
    assert found["runtimes"]["one"]["max_abs"] is None and found["runtimes"]["one"]["faults"]
