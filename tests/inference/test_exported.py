"""Exported files as engines, against plain matrix products."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import preloaded
import pytest
import tolerances
from installed import need
from scipy.special import expit, softmax

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.inference.calibration.maps import CalibrationMaps
from birdnet_fs.inference.calibration.stored import Calibration
from birdnet_fs.inference.open import open_engine

SPEC = schema.FrontEnd(
    sample_rate_hz=8_000, segment_s=0.5, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
)
CLASSES = ("a", "b", "c")


def noise(n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, SPEC.n_samples)).astype(np.float32)


_BUILD = """
import sys, numpy as np, tensorflow as tf
folder, n_samples, n_frames, n_mels = sys.argv[1], *map(int, sys.argv[2:])
def save(name, shape, n_batch):
    kernel = tf.constant(np.random.default_rng(1).normal(size=(int(np.prod(shape)), 3)).astype("float32"))
    np.save(f"{folder}/{name}.npy", kernel.numpy())
    spec = tf.TensorSpec((n_batch, *shape), tf.float32)
    call = tf.function(lambda x: tf.matmul(tf.reshape(x, (-1, kernel.shape[0])), kernel), input_signature=[spec])
    module = tf.Module()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()], module)
    open(f"{folder}/{name}.tflite", "wb").write(converter.convert())
save("waveform", (n_samples,), None)
save("features", (n_frames, n_mels, 1), 2)
"""


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """`waveform.tflite` of any batch, `features.tflite` of a fixed batch of 2; their matrices as .npy."""
    need("tensorflow")
    folder = tmp_path_factory.mktemp("artifacts")
    preloaded.run_python(["-c", _BUILD, folder, SPEC.n_samples, *SPEC.shape]).check_returncode()
    for name in ("waveform", "features"):
        (folder / f"{name}.json").write_text(json.dumps(sidecar(folder / f"{name}.tflite", name)))
    return folder


def sidecar(model, kind):
    return {
        "format": 1,
        "model": model.name,
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "classes": list(CLASSES),
        "sample_rate_hz": SPEC.sample_rate_hz,
        "segment_s": SPEC.segment_s,
        "input": kind,
        "input_shape": [1, SPEC.n_samples] if kind == "waveform" else [1, *SPEC.shape, 1],
        "output": "logits",
        "activation": "sigmoid",
        "frontend": SPEC.to_artifact(),
    }


def test_waveform_artifact_any_batch(artifacts):
    engine = open_engine(artifacts / "waveform.tflite", threads=1)
    waveforms = noise(5)
    wanted = waveforms.astype(np.float64) @ np.load(artifacts / "waveform.npy")
    np.testing.assert_allclose(engine.logits(waveforms, batch_size=3), wanted, atol=tolerances.ARTIFACT_MATMUL)
    assert engine.activation == "sigmoid"
    assert engine.classes == CLASSES


def test_features_artifact_fixed_batch(artifacts):
    waveforms = noise(5)
    features = np.asarray(log_mel(waveforms, SPEC), np.float64).reshape(5, -1)
    wanted = features @ np.load(artifacts / "features.npy")
    scores = open_engine(artifacts / "features.tflite").logits(waveforms, batch_size=3)
    np.testing.assert_allclose(scores, wanted, rtol=tolerances.ARTIFACT_MATMUL, atol=tolerances.ARTIFACT_MATMUL)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sha256": "0" * 64}, "SHA-256 differs"),
        ({"classes": ["a", "b"]}, r"must take \[n, 4000\] and give \[n, 2\]"),
        ({"classes": ["a", "b", "b"]}, "each once"),
        ({"segment_s": 1.0}, "two sample rates or segment lengths"),
        ({"output": "scores"}, "'output' must be logits or probabilities. Received: 'scores'"),
        ({"activation": None}, "'activation' is missing or of the wrong type"),
        ({"input": "features"}, r"must take \[n, 32, 16, 1\]"),
        ({"frontend": {"n_mel": 3}}, "Did you mean 'n_mels'"),
        ({"format": 2}, "'format' must be 1"),
        ({"calibration": {"format": 1, "classes": ["a", "b", "d"]}}, "calibration of other classes"),
    ],
)
def test_sidecar_faults(artifacts, tmp_path, change, words):
    model = tmp_path / "m.tflite"
    model.write_bytes((artifacts / "waveform.tflite").read_bytes())
    (tmp_path / "m.json").write_text(json.dumps({**sidecar(model, "waveform"), **change}))
    with pytest.raises(UserError, match=words):
        open_engine(model)


def test_artifact_with_a_calibration_in_its_sidecar(artifacts, tmp_path):
    model = tmp_path / "m.tflite"
    model.write_bytes((artifacts / "waveform.tflite").read_bytes())
    maps = CalibrationMaps(np.array([0.5, 1.0, 2.0]), np.array([0.0, 1.0, -1.0]))
    values = {**sidecar(model, "waveform"), "calibration": Calibration(CLASSES, maps).to_json()}
    (tmp_path / "m.json").write_text(json.dumps(values))
    plain, found = open_engine(artifacts / "waveform.tflite"), open_engine(model)
    expected = plain.logits(noise(4)) * maps.slope + maps.offset
    np.testing.assert_allclose(found.logits(noise(4)), expected, rtol=tolerances.LOGITS_FLOAT32)
    assert found.identity != plain.identity


def test_damaged_artifacts(tmp_path):
    model = tmp_path / "m.tflite"
    model.write_bytes(b"no flatbuffer at all")
    with pytest.raises(UserError, match=r"needs its sidecar m\.json"):
        open_engine(model)
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(UserError, match="not readable JSON"):
        open_engine(model)
    (tmp_path / "m.json").write_text("[]")
    with pytest.raises(UserError, match="'format' is missing"):
        open_engine(model)
    (tmp_path / "m.json").write_text(json.dumps(sidecar(model, "waveform")))
    need("ai_edge_litert")
    with pytest.raises(UserError, match="does not load in this TFLite runtime"):
        open_engine(model)


def small_onnx(path, output: str) -> np.ndarray:
    """A file of any batch that reads [n, 16, 32, 1] features, bands first, and sums them into three classes."""
    from onnx import TensorProto, helper, numpy_helper, save

    weights = np.random.default_rng(2).normal(0, 0.01, (512, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["features"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits" if output else "predictions"]),
        *([helper.make_node(output, ["logits"], ["predictions"])] if output else []),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 16, 32, 1])],
        [helper.make_tensor_value_info("predictions", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return weights


@pytest.mark.parametrize(("output", "activation"), [("", "sigmoid"), ("Sigmoid", "sigmoid"), ("Softmax", "softmax")])
def test_onnx_bands_first_with_logits_or_probabilities(tmp_path, output, activation):
    need("onnx")
    weights = small_onnx(tmp_path / "m.onnx", output)
    answers = {"output": "probabilities" if output else "logits", "activation": activation, "axes": "mel_first"}
    (tmp_path / "m.json").write_text(json.dumps({**sidecar(tmp_path / "m.onnx", "features"), **answers}))
    waveforms = noise(5)
    logits = np.asarray(log_mel(waveforms, SPEC), np.float64).swapaxes(1, 2).reshape(5, -1) @ weights
    engine = open_engine(tmp_path / "m.onnx", threads=1)
    wanted = expit(logits) if activation == "sigmoid" else softmax(logits, axis=1)
    found = engine.probabilities(waveforms, batch_size=3)
    np.testing.assert_allclose(found, wanted, atol=tolerances.ARTIFACT_MATMUL)
    assert np.ptp(wanted) > 0.1


@pytest.mark.parametrize("name", ["waveform.tflite", "features.tflite", "m.onnx"])
def test_several_threads_get_the_scores_of_one(artifacts, tmp_path, name):
    if name == "m.onnx":
        need("onnx")
        small_onnx(tmp_path / name, "")
        about = {**sidecar(tmp_path / name, "features"), "axes": "mel_first"}
        (tmp_path / "m.json").write_text(json.dumps(about))
    engine = open_engine((tmp_path if name == "m.onnx" else artifacts) / name, threads=1)
    rows = [noise(1 + seed % 4, seed) for seed in range(60)]
    expected = [engine.logits(each) for each in rows]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(engine.logits, rows))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert engine.runtime.split()[0] in ("ai-edge-litert", "tflite-runtime", "onnxruntime")


def onnx_with_sidecar(folder) -> tuple:
    need("onnx")
    model = folder / "m.onnx"
    weights = small_onnx(model, "")
    (folder / "m.json").write_text(json.dumps({**sidecar(model, "features"), "axes": "mel_first"}))
    return model, weights


@pytest.mark.parametrize(
    ("seconds", "difference", "chosen"),
    [
        ((2.0, 1.0), 1e-5, "openvino 1 (2.0 times as fast as onnxruntime"),
        ((1.0, 1.5), 1e-5, "onnxruntime"),
        ((1.05, 1.0), 1e-5, "onnxruntime"),  # too close to be the same in the next call
        ((2.0, 1.0), 0.1, "does not give the same scores"),
    ],
)
def test_the_fastest_runtime_is_chosen_if_it_gives_the_same_scores(tmp_path, monkeypatch, seconds, difference, chosen):
    from birdnet_fs.inference import exported

    model, _ = onnx_with_sidecar(tmp_path)

    def other(path, threads):
        first = exported._open_onnx(path, threads)
        return first._replace(run=lambda batch: first.run(batch) + np.float32(difference), runtime="openvino 1")

    monkeypatch.setattr(exported, "has_openvino", lambda: True)
    monkeypatch.setattr(exported, "_open_openvino", other)
    timed = dict(zip(("onnxruntime", "openvino"), seconds, strict=True))
    monkeypatch.setattr(exported, "_timed", lambda net, x: (net.run(x), timed[net.runtime.split()[0]]))
    assert chosen in open_engine(model, threads=1, runtime="fastest").runtime
    assert open_engine(model, threads=1).runtime.split()[0] == "onnxruntime"


def test_the_only_runtime_is_said(tmp_path, monkeypatch):
    from birdnet_fs.inference import exported

    model, _ = onnx_with_sidecar(tmp_path)
    monkeypatch.setattr(exported, "has_openvino", lambda: False)
    assert "the only runtime" in open_engine(model, threads=1, runtime="fastest").runtime


def test_openvino_gives_the_scores_of_the_file_on_several_threads(tmp_path):
    need("openvino")
    model, weights = onnx_with_sidecar(tmp_path)
    engine = open_engine(model, threads=1, runtime="openvino")
    rows = [noise(1 + seed % 4, seed) for seed in range(30)]
    wanted = [np.asarray(log_mel(x, SPEC), np.float64).swapaxes(1, 2).reshape(len(x), -1) @ weights for x in rows]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(engine.logits, rows))
    for given, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(given, expected, atol=4 * tolerances.ARTIFACT_MATMUL)
    assert engine.runtime.startswith("openvino ")


def test_a_runtime_for_onnx_is_refused_for_other_models(artifacts):
    with pytest.raises(UserError, match=r"is for \.onnx files"):
        open_engine(artifacts / "waveform.tflite", runtime="openvino")
