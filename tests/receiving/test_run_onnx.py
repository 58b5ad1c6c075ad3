"""ONNX files on the receiving side: scores, probabilities, any batch, and check_artifact.py."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tolerances
from artifacts import sidecar_of
from onnx_files import CLASSES, SPEC, own_answers, small_run, sounds, write
from receiving import receive

from birdnet_fs.core.files import sha256
from birdnet_fs.export.sidecars import frontend_constants
from birdnet_fs.runs.run import Run

LABELS = ["Turdus merula_Common Blackbird", "toad_toad", "Parus major_Great Tit"]
WAYS = {  # name -> settings of the job
    "waveform": {"batch": None, "output_kind": "logits", "outputs": ["predictions", "embeddings"]},
    "features": {"batch": 1, "output_kind": "probabilities", "outputs": ["predictions"], "axes": "mel_first"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return small_run(tmp_path_factory.mktemp("runs"), "cnn/tiny")


@pytest.fixture(scope="module")
def expected(run: Run) -> list[np.ndarray]:
    return own_answers(run)


def chances(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits.astype(np.float64))
    return raised / raised.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def artifacts(run: Run, expected: list[np.ndarray], tmp_path_factory) -> dict[str, Path]:
    """Both ways with the files beside them, written by hand here."""
    found = {}
    for way, settings in WAYS.items():
        folder = write(run, tmp_path_factory.mktemp("artifacts") / way, input=way, **settings)
        model = folder / "small.onnx"
        (folder / "fp32.onnx").rename(model)
        put_beside(model, way, expected)
        found[way] = model
    return found


def put_beside(model: Path, way: str, expected: list[np.ndarray]) -> None:
    settings, stem = WAYS[way], str(model.with_suffix(""))
    Path(stem + "_Labels.txt").write_text("".join(f"{line}\n" for line in LABELS), "utf-8")
    kind = settings["output_kind"]
    scores = expected[0] if kind == "logits" else chances(expected[0])
    golden: dict[str, Any] = {kind: scores, "tolerance": tolerances.EXPORT_FP32_LOGITS}
    n_frames, n_mels = SPEC.shape
    shape = [None, SPEC.n_samples] if way == "waveform" else [1, n_mels, n_frames, SPEC.n_channels]
    about = {"input": way, "input_shape": shape, "axes": settings.get("axes", "time_first"), "output": kind}
    sidecar = sidecar_of(model, CLASSES, SPEC, activation="softmax", **about)
    if way == "waveform":
        sidecar["embeddings"] = {"output": 1, "width": expected[1].shape[1], "enrolment": None}
        golden |= {"embeddings": expected[1], "embeddings_tolerance": tolerances.EXPORT_FP32_LOGITS}
    else:
        np.savez_compressed(stem + "_frontend.npz", **frontend_constants(SPEC))
        sidecar["frontend_sha256"] = sha256(Path(stem + "_frontend.npz"))
    np.savez_compressed(stem + "_golden.npz", waveforms=(sounds(8) * 32768).astype(np.int16), **golden)
    Path(stem + ".json").write_text(json.dumps(sidecar), "utf-8")


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """The eight segments one after the other."""
    path = tmp_path_factory.mktemp("audio") / "long.wav"
    soundfile.write(path, sounds(8).ravel(), SPEC.sample_rate_hz, subtype="FLOAT")
    return path


@pytest.mark.parametrize("way", WAYS)
def test_run_onnx_matches_the_run(artifacts, expected, recording: Path, way: str) -> None:
    done = receive("run_onnx.py", artifacts[way], recording, "--json")
    assert done.returncode == 0, done.stderr
    given, kind = json.loads(done.stdout), WAYS[way]["output_kind"]
    assert given["labels"] == list(CLASSES) and [s["start_s"] for s in given["segments"]] == list(range(8))
    wanted = expected[0] if kind == "logits" else chances(expected[0])
    assert np.ptp(wanted) > 0.1  # else closeness would show nothing
    assert np.abs(np.array([s[kind] for s in given["segments"]]) - wanted).max() <= tolerances.EXPORT_FP32_LOGITS


@pytest.mark.parametrize("way", WAYS)
def test_text_shows_probabilities_for_every_output_kind(artifacts, expected, recording: Path, way: str) -> None:
    lines = receive("run_onnx.py", artifacts[way], recording, "--top", 1).stdout.splitlines()
    best = chances(expected[0]).max(1)
    assert [float(line.split()[-1]) for line in lines] == pytest.approx(best, abs=6e-4)  # three digits are shown


def test_wav_is_read_without_audio_libraries(artifacts, expected, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sounds(8)[0], SPEC.sample_rate_hz, subtype="PCM_16")
    done = receive("run_onnx.py", artifacts["waveform"], tmp_path / "a.wav", "--json", sound=False)
    given = np.array(json.loads(done.stdout)["segments"][0]["logits"])
    assert np.abs(given - expected[0][0]).max() <= tolerances.EXPORT_FP32_LOGITS


@pytest.mark.parametrize("way", WAYS)
def test_check_artifact_passes_and_finds_tampering(artifacts, expected, tmp_path: Path, way: str) -> None:
    done = receive("check_artifact.py", artifacts[way])
    assert done.returncode == 0 and "FAIL" not in done.stdout, done.stdout + done.stderr
    kind = WAYS[way]["output_kind"]
    assert f"golden {kind}" in done.stdout
    model = tmp_path / "small.onnx"
    for path in artifacts[way].parent.glob("small*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with np.load(tmp_path / "small_golden.npz") as stored:
        golden = {**stored, kind: stored[kind] + np.float32(2e-3)}
    np.savez_compressed(tmp_path / "small_golden.npz", **golden)
    done = receive("check_artifact.py", model)
    assert done.returncode == 1 and f"FAIL  golden {kind}" in done.stdout
    sidecar = json.loads((tmp_path / "small.json").read_text("utf-8"))
    sidecar["input_shape"][0] = 3
    (tmp_path / "small.json").write_text(json.dumps(sidecar), "utf-8")
    done = receive("check_artifact.py", model)
    assert done.returncode == 2 and "do not belong together" in done.stderr


def test_check_artifact_finds_logits_declared_as_probabilities(artifacts, tmp_path: Path) -> None:
    for path in artifacts["waveform"].parent.glob("small*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    sidecar = json.loads((tmp_path / "small.json").read_text("utf-8")) | {"output": "probabilities"}
    (tmp_path / "small.json").write_text(json.dumps(sidecar), "utf-8")
    with np.load(tmp_path / "small_golden.npz") as stored:
        golden = {**stored, "probabilities": stored["logits"]}
    np.savez_compressed(tmp_path / "small_golden.npz", **golden)
    done = receive("check_artifact.py", tmp_path / "small.onnx")
    assert done.returncode == 1 and "FAIL  scores are probabilities" in done.stdout


def test_invalid_input_is_refused(artifacts, recording: Path, tmp_path: Path) -> None:
    done = receive("run_tflite.py", artifacts["waveform"], recording)
    assert done.returncode == 2 and "must be a .tflite file" in done.stderr
    done = receive("check_artifact.py", recording)
    assert done.returncode == 2 and ".tflite or .onnx" in done.stderr
    for path in artifacts["waveform"].parent.glob("small*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model = tmp_path / "small.onnx"
    model.write_bytes(model.read_bytes()[:1000])
    done = receive("run_onnx.py", model, recording)
    assert done.returncode == 2 and "SHA-256 differs" in done.stderr
    sidecar = json.loads((tmp_path / "small.json").read_text("utf-8")) | {"sha256": sha256(model)}
    (tmp_path / "small.json").write_text(json.dumps(sidecar), "utf-8")
    done = receive("run_onnx.py", model, recording)
    assert done.returncode == 2 and "does not load in onnxruntime" in done.stderr
    assert "Traceback" not in done.stderr
