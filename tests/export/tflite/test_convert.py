"""TFLite files in every precision against the run, on a TFLite runtime."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import preloaded
import pytest
import scipy.special
import tolerances
import torch
from installed import need
from on_runtime import run_tflite
from other_pythons import python_with

from birdnet_fs import models, schema
from birdnet_fs.encoders.tflite_graph import read_model
from birdnet_fs.export.runtimes import subprocesses
from birdnet_fs.export.tflite import edit as flatbuffer
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.runs.run import Run, build_network, model_weights, save_run

need("tensorflow")
PRECISIONS = ("fp32", "fp16", "dynamic", "int8")
SPEC = schema.FrontEnd(
    preset="test",
    sample_rate_hz=16_000,
    segment_s=1.0,
    n_fft=512,
    win_length=512,
    hop_length=256,
    n_mels=32,
    fmax_hz=8_000.0,
    n_channels=2,
)
SEVERAL = """
import json, sys
from pathlib import Path
from birdnet_fs.export.tflite import convert
from birdnet_fs.models import rnn
rnn.VARIANTS["lstm"] = rnn.Size("lstm", (16, 8), False)
for job in json.loads(Path(sys.argv[1]).read_text()):
    convert.run_job(job)
"""


def sounds(n: int, seed: int) -> np.ndarray:
    """[n, n_samples]: tones that rise or fall, each in noise of another level."""
    random = np.random.default_rng(seed)
    time_s = np.arange(SPEC.n_samples) / SPEC.sample_rate_hz
    low, rise, level, noise = (
        random.uniform(a, b, (n, 1)) for a, b in ((500, 5000), (-400, 2000), (0.05, 0.6), (1, 3))
    )
    tones = level * np.sin(2 * np.pi * (low + rise * time_s) * time_s) * (time_s % 0.3 < 0.15)
    return (tones + 10**-noise * random.standard_normal(tones.shape)).astype(np.float32)


def features(waveforms: np.ndarray) -> np.ndarray:
    """[n, n_frames, n_mels]."""
    return np.asarray(log_mel(waveforms, SPEC), np.float32)


def copies(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.repeat(x[..., None], SPEC.n_channels, axis=-1))


def make_run(folder: Path, name: str) -> Run:
    """Random weights, and moving statistics that fit the sounds, without which outputs are noise."""
    keras.utils.set_random_seed(7)
    experiment = schema.Experiment(
        name="small", frontend=SPEC, model=schema.Model(name=name), data=schema.Data(root=str(folder), layout="folders")
    )
    model = build_network(experiment, n_classes=6)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    with torch.no_grad():
        model(copies(features(sounds(64, 1))), training=True)
    return save_run(folder, experiment, [f"class {i}" for i in range(6)], model_weights(model))


def job_of(run: Run, folder: Path, **others) -> dict:
    folder.mkdir()
    np.save(folder / "calibration.npy", features(sounds(64, 1)))
    usual = {
        "input": "waveform",
        "fft": "builtin",
        "batch": None,
        "output_kind": "logits",
        "outputs": ["predictions"],
        "precisions": ["fp32"],
    }
    settings = {"run": str(run.path), "frontend": SPEC.to_artifact(), "calibration": str(folder / "calibration.npy")}
    return {**usual, **settings, "precisions": ["fp32"], "folder": str(folder), **others}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with waveforms and their features."""
    place = tmp_path_factory.mktemp("writer")
    waveforms = sounds(24, 2)
    np.save(place / "waveform.npy", waveforms)
    np.save(place / "features.npy", copies(features(waveforms)).numpy())
    return place


@pytest.fixture(scope="module")
def run(folder) -> Run:
    return make_run(folder / "run", "cnn/tiny")


@pytest.fixture(scope="module")
def expected(folder, run) -> list[np.ndarray]:
    """(logits, embeddings) [24, ...]."""
    model = models.with_outputs(run.build_model(), ["logits", "embedding"])
    with torch.no_grad():
        return [each.numpy() for each in model(copies(features(np.load(folder / "waveform.npy"))), training=False)]


@pytest.fixture(scope="module")
def written(folder, run) -> Path:
    """Every precision for waveforms and any batch, with logits and embeddings, written by the process itself."""
    job = job_of(run, folder / "written", precisions=list(PRECISIONS), outputs=["predictions", "embeddings"])
    (folder / "job.json").write_text(json.dumps(job))
    done = subprocesses.run_module("birdnet_fs.export.tflite.convert", [folder / "job.json"], backend="tensorflow")
    assert done.returncode == 0, done.stderr
    return folder / "written"


@pytest.fixture(scope="module")
def several(folder, run) -> Path:
    """Other jobs, in one process."""
    recurrent = make_run_of_loops(folder)
    plain = {"input": "features", "batch": 1, "output_kind": "probabilities", "precisions": ["fp32", "int8"]}
    jobs = [
        job_of(run, folder / "plain", **plain),
        job_of(recurrent, folder / "loops", batch=1, precisions=["int8", "fp32", "dynamic"]),
        job_of(recurrent, folder / "loops_open", precisions=["fp32"]),
        job_of(make_quantized_run(run, folder / "rounded_run"), folder / "rounded", precisions=["fp32", "int8"]),
    ]
    (folder / "rounded" / "calibration.npy").unlink()
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = preloaded.run_python(["-c", SEVERAL, folder / "jobs.json"])
    assert done.returncode == 0, done.stderr
    return folder


def make_run_of_loops(folder: Path) -> Run:
    from birdnet_fs.models import rnn

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rnn.VARIANTS, "lstm", rnn.Size("lstm", (16, 8), False))
        return make_run(folder / "loops_run", "rnn/lstm")


def make_quantized_run(run: Run, folder: Path) -> Run:
    """The run as a network that rounds; its ranges are those of nothing yet."""
    model = dataclasses.replace(run.experiment.model, quantized=True, weights=str(run.path))
    experiment = dataclasses.replace(run.experiment, model=model)
    return save_run(folder, experiment, run.classes, model_weights(build_network(experiment, len(run.classes))))


def of_spread(found: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square error over the standard deviation of what is expected."""
    return float(np.sqrt(np.square(found - expected).mean()) / expected.std(axis=0).mean())


def test_all_precisions_are_written_and_nothing_else(written):
    assert {p.name for p in written.iterdir()} == {f"{p}.tflite" for p in PRECISIONS} | {"calibration.npy"}


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [
        ("fp32", tolerances.EXPORT_FP32_LOGITS),
        ("fp16", tolerances.EXPORT_FP16_LOGITS),
        ("dynamic", tolerances.INT8_RMS),
        ("int8", tolerances.INT8_RMS),
    ],
)
def test_precision_matches_the_run_in_any_batch(folder, written, expected, tmp_path, precision, tolerance):
    file = written / f"{precision}.tflite"
    logits, embeddings = run_tflite(file, folder / "waveform.npy", tmp_path / "o.npz")
    assert np.ptp(expected[0], axis=0).min() > 0.5  # else closeness would show nothing
    assert of_spread(logits, expected[0]) <= tolerance and of_spread(embeddings, expected[1]) <= tolerance
    for batch in (3, 8):
        together = run_tflite(file, folder / "waveform.npy", tmp_path / "o.npz", batch=batch)
        np.testing.assert_allclose(together[0], logits, rtol=0, atol=tolerances.EXPORT_FP32_LOGITS)
        np.testing.assert_allclose(together[1], embeddings, rtol=0, atol=tolerances.EXPORT_FP32_LOGITS)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_tflite_runtime_matches_the_run(folder, written, expected, tmp_path, precision, batch):
    """tflite-runtime with its default delegate, which is what refused or miscomputed earlier files."""
    python = str(python_with("tflite-runtime", "requirements-tflite_runtime.txt"))
    file, limit = written / f"{precision}.tflite", {"fp32": tolerances.EXPORT_FP32_LOGITS}
    found = run_tflite(file, folder / "waveform.npy", tmp_path / "o.npz", batch=batch, python=python)
    for answer, wanted in zip(found, expected, strict=True):
        assert of_spread(answer, wanted) <= limit.get(precision, tolerances.INT8_RMS)


def test_file_size_follows_the_precision(written, several):
    n_weights = sum(int(np.prod(w.shape)) for w in keras_weights(several))
    front = n_bytes(written / "fp32.tflite") - n_bytes(several / "plain" / "fp32.tflite")
    alone = {precision: n_bytes(written / f"{precision}.tflite") - front for precision in PRECISIONS}
    assert alone["fp32"] >= 4 * n_weights
    assert alone["fp16"] < 0.62 * alone["fp32"]
    assert alone["dynamic"] < 0.45 * alone["fp32"] and alone["int8"] < 0.45 * alone["fp32"]


def keras_weights(place: Path) -> list:
    from birdnet_fs.runs.run import load_run

    return load_run(place / "run").build_model().trainable_weights


def n_bytes(file: Path) -> int:
    return file.stat().st_size


def test_int8_applies_to_the_network_and_not_to_the_front_end(written, several):
    network, front = (several / "plain" / "int8.tflite"), written / "int8.tflite"
    inside = [flatbuffer.operators(file) for file in (several / "plain" / "fp32.tflite", network)]
    n_front = len(flatbuffer.operators(written / "fp32.tflite")) - len(inside[0]) + 1  # the activation
    for file, n_float in ((network, 3), (front, 3 + n_front)):  # input, logits and probabilities, or embeddings
        types = operand_types(file)
        assert types.count("INT8") >= len(inside[0]) - 1
        assert types.count("FLOAT32") <= n_float
    assert "INT8" not in flatbuffer.count_types(written / "fp32.tflite")


def operand_types(file: Path) -> list[str]:
    """The type of the first result of every operator."""
    from ai_edge_litert import schema_py_generated as fb

    names = {value: name for name, value in vars(fb.TensorType).items() if isinstance(value, int)}
    (graph,) = read_model(file).subgraphs
    return [names[graph.tensors[operator.outputs[0]].type] for operator in graph.operators]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_probabilities_are_the_activation_of_the_logits(folder, several, written, expected, tmp_path, precision):
    (found,) = run_tflite(several / "plain" / f"{precision}.tflite", folder / "features.npy", tmp_path / "o.npz")
    logits, _ = run_tflite(written / f"{precision}.tflite", folder / "waveform.npy", tmp_path / "o.npz")
    assert np.abs(found.sum(axis=1) - 1).max() <= 1e-6
    if precision == "fp32":
        assert np.abs(found - scipy.special.softmax(expected[0], axis=1)).max() <= tolerances.EXPORT_FP32_LOGITS
    else:  # a feature on the edge of a step may be rounded the other way behind another front-end
        assert of_spread(np.log(found), scipy.special.log_softmax(logits, axis=1)) <= tolerances.INT8_TWO_FRONT_ENDS
    assert not flatbuffer.foreign_operators(several / "plain" / f"{precision}.tflite")


def test_a_precision_that_cannot_be_written_leaves_a_reason_and_the_others(folder, several, tmp_path):
    assert {p.name for p in (several / "loops").iterdir()} == {
        "fp32.tflite",
        "dynamic.tflite",
        "int8.error.txt",
        "calibration.npy",
    }
    reason = (several / "loops" / "int8.error.txt").read_text()
    assert reason == "The recurrent network rnn/lstm cannot be written in int8: use dynamic or fp16.\n"
    (found,) = run_tflite(several / "loops" / "fp32.tflite", folder / "waveform.npy", tmp_path / "o.npz")
    (rough,) = run_tflite(several / "loops" / "dynamic.tflite", folder / "waveform.npy", tmp_path / "o.npz")
    assert 0 < of_spread(rough, found) <= tolerances.INT8_RMS


def test_recurrent_networks_need_a_fixed_batch(several):
    assert {p.name for p in (several / "loops_open").iterdir()} == {"fp32.error.txt", "calibration.npy"}
    assert (
        "rnn/lstm can only be written for one segment per call."
        in (several / "loops_open" / "fp32.error.txt").read_text()
    )


def test_quantized_network_is_written_as_int8_only_without_calibration(several):
    assert {p.name for p in (several / "rounded").iterdir()} == {"int8.tflite", "fp32.error.txt"}
    assert "trained for 8 bits" in (several / "rounded" / "fp32.error.txt").read_text()
    file = several / "rounded" / "int8.tflite"
    kinds = dict(zip(flatbuffer.operators(file), operand_types(file), strict=True))  # the last of each kind
    assert kinds["CONV_2D"] == "INT8" and kinds["DEQUANTIZE"] == "FLOAT32"
