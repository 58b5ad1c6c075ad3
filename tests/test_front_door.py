"""`import birdnet_fs as bfs`: lazy names, the names of the interface, and `predict` against `analyze`."""

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import run_to_export
import soundfile as sf
import tolerances
from installed import need

import birdnet_fs as bfs
from birdnet_fs import schema
from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs.ensemble import save_ensemble

RATE = 16_000
SPEC = dataclasses.replace(run_to_export.SPEC, segment_s=5.0)
CLASSES = ("Turdus merula", "end", "Parus major")
MODELS = ("run", "ensemble", "tflite", "onnx")


def loaded_after(code: str) -> set[str]:
    """Modules that a new process has loaded after `code`."""
    code += "\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(found.stdout.splitlines()[-1]))


def test_import_loads_no_library() -> None:
    modules = loaded_after("import birdnet_fs as bfs; dir(bfs)")
    top = {name.partition(".")[0] for name in modules}
    assert top & {"numpy", "scipy", "keras", "torch", "tensorflow", "numba", "soundfile", "typer"} == set()
    assert {name for name in modules if name.startswith("birdnet_fs")} == {"birdnet_fs"}


def test_settings_and_metrics_need_no_framework() -> None:
    code = "import birdnet_fs as bfs; bfs.schema.Experiment(); bfs.macro_auroc([[0], [1]], [[0.1], [0.2]])"
    assert {name.partition(".")[0] for name in loaded_after(code)} & {"keras", "torch", "tensorflow"} == set()


def test_promised_names_are_reachable() -> None:
    assert set(bfs.__all__) <= set(dir(bfs))
    assert all(callable(getattr(bfs, name)) for name in bfs.__all__)
    for name in ("Data", "FrontEnd", "Model", "Augmentation", "Training", "Experiment"):
        assert getattr(bfs.schema, name) is getattr(schema, name)
    assert bfs.frontend.preset("panns") == bfs.preset("panns")
    assert bfs.models.build is bfs.build_model
    schema.Training(epochs=2, batch_size=4, learning_rate=0.1, threads=1)
    with pytest.raises(AttributeError, match="has no attribute 'loda'"):
        _ = bfs.loda


def test_public_functions_work_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sf.write(tmp_path / "a.wav", rng.uniform(-0.5, 0.5, RATE), RATE)
    audio = bfs.read_audio(tmp_path / "a.wav", sample_rate_hz=RATE)
    short = schema.FrontEnd(sample_rate_hz=RATE, segment_s=1.0, n_mels=32, fmax_hz=7_000.0)
    features = bfs.log_mel(audio.waveform, short)
    assert features.shape == short.shape
    np.testing.assert_array_equal(bfs.log_mel(audio.waveform[None], short)[0], features)
    model = bfs.build_model("cnn/tiny", input_shape=(*short.shape, 1), n_classes=2)
    model.save(tmp_path / "m.keras")
    x = features[None, ..., None]
    np.testing.assert_array_equal(
        bfs.load_keras(tmp_path / "m.keras").predict(x, verbose=0), model.predict(x, verbose=0)
    )
    metric = bfs.ClassWiseAUC()
    metric.update_state([[0, 1], [1, 0]], [[0.1, 0.2], [0.3, 0.1]])
    assert float(metric.result()) == bfs.macro_auroc([[0, 1], [1, 0]], [[0.1, 0.2], [0.3, 0.1]]).value == 1.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, an ensemble, and recordings of 5.5, 6.5 and 8 s at the rate of the model and at another one."""
    folder = tmp_path_factory.mktemp("door")
    runs = [
        run_to_export.make_run(
            folder / name.replace("/", "_"), schema.Experiment(frontend=SPEC, model=schema.Model(name)), CLASSES
        )
        for name in ("cnn/tiny", "cnn/small")
    ]
    save_ensemble(folder / "ensemble", runs)
    (folder / "recordings").mkdir()
    for seconds in (5.5, 6.5, 8.0):
        for rate in (RATE, 22_050):
            t = np.arange(round(seconds * rate)) / rate
            tone = 0.3 * np.sin(2 * np.pi * (500 + 300 * t) * t) + np.random.default_rng(1).normal(0, 0.01, len(t))
            sf.write(folder / "recordings" / f"{seconds}s_{rate}.wav", tone, rate, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def exported(folder: Path) -> dict[str, Path]:
    """The run as .tflite and .onnx."""
    need("tensorflow")
    need("onnxruntime")
    from birdnet_fs.export.export import export_run
    from birdnet_fs.runs.run import load_run

    run, audio = load_run(folder / "cnn_tiny"), folder / "recordings"
    found = {}
    for target in ("tflite", "onnx"):
        (made,) = export_run(run, folder / target, target=target, audio=audio, n_segments=4)
        found[target] = made.path
    return found


@pytest.fixture(params=MODELS)
def path(request: pytest.FixtureRequest, folder: Path) -> Path:
    if request.param in ("tflite", "onnx"):
        return request.getfixturevalue("exported")[request.param]
    return folder / {"run": "cnn_tiny"}.get(request.param, request.param)


def written_by_analyze(path: Path, recording: Path, output: Path, overlap_s: float) -> list[dict[str, str]]:
    analyze(open_engine(path), [recording], output, min_confidence=0.0, overlap_s=overlap_s)
    (table,) = output.glob("*.BirdNET.results.csv")
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("seconds", "n_windows"), [(5.5, 1), (6.5, 2), (8.0, 2)])
def test_predict_equals_analyze(path: Path, folder: Path, seconds: float, n_windows: int, tmp_path: Path) -> None:
    model = bfs.load(path, threads=1)
    assert model.classes == CLASSES
    for rate in (RATE, 22_050):
        recording = folder / "recordings" / f"{seconds}s_{rate}.wav"
        table = model.predict(recording)
        assert len(table) == n_windows and (table.status, table.reason) == ("ok", "")
        assert table["end_s"].max() <= seconds
        rows = written_by_analyze(path, recording, tmp_path / str(rate), 0.0)
        ours = {
            (float(f"{start:.6f}"), float(f"{end:.6f}"), name): f"{score:.4f}"
            for name in CLASSES
            for start, end, score in zip(table["start_s"], table["end_s"], table[name], strict=True)
        }
        theirs = {
            (float(row["Start (s)"]), float(row["End (s)"]), row["Scientific name"]): row["Confidence"] for row in rows
        }
        assert ours == theirs and len(rows) == 3 * n_windows


def test_overlap_and_waveforms_follow_the_same_rule(folder: Path, tmp_path: Path) -> None:
    model, recording = bfs.load(folder / "cnn_tiny"), folder / "recordings" / f"8.0s_{RATE}.wav"
    table = model.predict(recording, overlap_s=3.5)
    assert table["start_s"].tolist() == [0.0, 1.5, 3.0]
    rows = written_by_analyze(folder / "cnn_tiny", recording, tmp_path, 3.5)
    assert sorted({float(row["Start (s)"]) for row in rows}) == table["start_s"].tolist()
    samples, _ = sf.read(recording, dtype="int16")
    for waveform in (samples, samples / np.float32(32768), samples / 32768):
        found = model.predict(waveform, overlap_s=3.5)
        np.testing.assert_array_equal(found.scores, table.scores)
        np.testing.assert_array_equal(found["end_s"], table["end_s"])
    assert np.ptp(table.scores) > 0.01


def test_table_has_times_and_classes_as_columns(folder: Path) -> None:
    table = bfs.load(folder / "cnn_tiny").predict(folder / "recordings" / f"8.0s_{RATE}.wav")
    assert table.columns == ("start_s", "end_s", *CLASSES) == tuple(table)
    assert table["start_s"].dtype == np.float64 and table["Parus major"].dtype == np.float32
    np.testing.assert_array_equal(table["Parus major"], table.scores[:, 2])
    np.testing.assert_allclose(sum(table[name] for name in CLASSES), 1.0, rtol=tolerances.SOFTMAX_OF_LOGS)
    with pytest.raises(bfs.UserError, match=r"Did you mean 'Turdus merula'\? Received: 'Turdus merola'"):
        table["Turdus merola"]
