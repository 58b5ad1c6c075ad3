"""Tokens of encoders shaped like Perch v2: the mean over frequency of each time step, in order."""

import dataclasses

import foreign_encoders
import numpy as np
import pytest
from installed import need

from birdnet_fs.core.errors import UserError
from birdnet_fs.encoders.cards import CARDS
from birdnet_fs.encoders.inspection import inspect_file
from birdnet_fs.encoders.tokens import open_tokens, tokens_of

need("onnxruntime")
CARD = dataclasses.replace(CARDS["perch_v2"], name="small", sample_rate_hz=16_000, segment_s=0.2, n_scores=50)


def test_tokens_are_means_over_frequency(tmp_path):
    outputs = ("tokens:spatial_embedding", "label:l", "embedding:e")
    file = foreign_encoders.write_onnx(tmp_path / "p.onnx", 3200, 1536, outputs=outputs, tokens=(16, 4, 1536))
    facts = inspect_file(file)
    assert tokens_of(facts, CARD).name == "spatial_embedding"
    encoder = open_tokens(file, CARD)
    windows = np.random.default_rng(0).uniform(-1, 1, (3, 3200)).astype(np.float32)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    [given] = session.run(["spatial_embedding"], {session.get_inputs()[0].name: windows})
    assert given.shape == (3, 16, 4, 1536)
    np.testing.assert_allclose(encoder.embed(windows).reshape(3, 16, 1536), given.mean(2), atol=1e-5)


def test_an_encoder_without_tokens_is_refused(tmp_path):
    file = foreign_encoders.write_onnx(tmp_path / "p.onnx", 3200, 1536, outputs=("label:l", "embedding:e"))
    assert tokens_of(inspect_file(file), CARD) is None
    with pytest.raises(UserError, match=r"needs tokens, an embedding for each step in time; small .*gives none"):
        open_tokens(file, CARD)
