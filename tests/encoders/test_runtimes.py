"""Runtimes of encoder files: wanted outputs in order, batches of any size, one sentence where a file does not load."""

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


def test_a_missing_runtime_is_named(monkeypatch):
    monkeypatch.setattr(runtimes, "INTERPRETERS", ("no_such_runtime",))
    with pytest.raises(UserError, match="needs a TFLite runtime"):
        runtimes.tflite_interpreter()


def test_bytes_that_are_no_model_are_refused():
    with pytest.raises(UserError, match=r"x\.tflite does not load"):
        runtimes.tflite_function(b"nonsense", "x.tflite", threads=1)
