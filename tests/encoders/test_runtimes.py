"""Runtimes of encoder files: wanted outputs in order, batches of any size, one sentence where a file does not load."""

import importlib

import foreign_encoders
import numpy as np
import pytest
from installed import need

from birdnet_fs.core.errors import UserError
from birdnet_fs.encoders import runtimes

need("ai_edge_litert")
need("onnx")


def test_onnx_outputs_are_given_by_name_in_the_asked_order(tmp_path):
    path = foreign_encoders.write_onnx(tmp_path / "a.onnx", 3200, 8, outputs=("label:l", "embedding:e"), n_scores=3)
    run = runtimes.onnx_function(path, ["e", "l"], threads=1)
    waveforms = np.random.default_rng(0).normal(size=(2, 3200)).astype(np.float32)
    embeddings, scores = run(waveforms)
    assert embeddings.shape == (2, 8) and scores.shape == (2, 3)
    np.testing.assert_array_equal(scores, embeddings[:, :3])


def test_tflite_takes_batches_of_changing_size(tmp_path):
    path = foreign_encoders.write_tflite(tmp_path / "a.tflite", 3200, 8, 3)
    run = runtimes.tflite_function(path.read_bytes(), path, threads=1)
    waveforms = np.random.default_rng(0).normal(size=(4, 3200)).astype(np.float32)
    (whole,) = run(waveforms)
    parts = np.concatenate([run(waveforms[:1])[0].copy(), run(waveforms[1:])[0]])
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_interpreter_falls_back_then_names_the_extra(monkeypatch):
    asked = []
    device = type("Module", (), {"Interpreter": "the older one"})

    def only(*known):
        def find(name):
            asked.append(name)
            if name in known:
                return device
            raise ImportError(name)

        return find

    monkeypatch.setattr(importlib, "import_module", only("tflite_runtime.interpreter"))
    assert runtimes.tflite_interpreter() == "the older one"
    assert asked == ["ai_edge_litert.interpreter", "tflite_runtime.interpreter"]
    monkeypatch.setattr(importlib, "import_module", only())
    with pytest.raises(UserError, match=r'pip install "birdnet_fs\[export\]"'):
        runtimes.tflite_interpreter()


def test_bytes_that_are_no_model_are_refused():
    with pytest.raises(UserError, match=r"x\.tflite does not load"):
        runtimes.tflite_function(b"nonsense", "x.tflite", threads=1)


def test_a_tensor_too_large_to_allocate_is_refused(tmp_path, monkeypatch):
    path = foreign_encoders.write_tflite(tmp_path / "a.tflite", 3200, 8, 3)
    runtimes.open_tflite(path, path, threads=1)
    monkeypatch.setattr(runtimes, "MAX_TENSOR", 3199)
    with pytest.raises(UserError, match="a tensor has 3,200 numbers, and 3,199 are the most"):
        runtimes.open_tflite(path, path, threads=1)
