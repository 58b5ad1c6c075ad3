"""A TFLite file that is cut at an inner tensor gives that tensor and stores no weight behind it."""

import foreign_encoders
import numpy as np
import pytest
from installed import need

from birdnet_fs.core.errors import UserError
from birdnet_fs.encoders import runtimes
from birdnet_fs.encoders.tflite_graph import before_last_dense, cut_at, read_foreign, read_model, write_model

need("ai_edge_litert")


def test_a_cut_file_gives_the_inner_tensor_without_the_weights_behind(tmp_path):
    whole = foreign_encoders.write_tflite(tmp_path / "whole.tflite", 3200, 64, 5000)
    model = read_foreign(whole)
    cut_at(model, before_last_dense(model), (64,))
    cut = tmp_path / "cut.tflite"
    write_model(model, cut)
    assert whole.stat().st_size - cut.stat().st_size > 0.99 * 4 * 64 * 5000
    waveforms = np.random.default_rng(0).normal(size=(3, 3200)).astype(np.float32)
    (found,) = runtimes.tflite_function(cut.read_bytes(), cut, threads=1)(waveforms)
    wanted = foreign_encoders.embedding(waveforms, 64)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    (signature,) = read_model(cut).signatureDefs
    assert [bytes(each.name) for each in signature.outputs] == [b"embeddings"]


def test_an_output_behind_the_cut_is_kept_on_request(tmp_path):
    model = read_foreign(foreign_encoders.write_tflite(tmp_path / "a.tflite", 3200, 64, 9))
    n_operators, scores = len(model.subgraphs[0].operators), int(model.subgraphs[0].outputs[0])
    cut_at(model, before_last_dense(model), (64,), outputs=(scores,))
    assert len(model.subgraphs[0].operators) == n_operators
    assert list(model.subgraphs[0].outputs)[1] == scores


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_foreign(tmp_path / "a.tflite")
