"""The output of a joined encoder becomes what the head reads of the encoder in its own runtime."""

import dataclasses

import joined_heads
import keras
import numpy as np
import pytest
import tolerances
from scipy.special import expit, softmax

from birdnet_fs.encoders.open import Encoder
from birdnet_fs.export.encoder_output import EncoderOutput

WIDTH = joined_heads.TFLITE.width


@pytest.mark.parametrize("activation", ["logits", "sigmoid", "softmax"])
def test_own_scores_become_the_logits_that_the_head_was_fitted_to(activation: str) -> None:
    """Probabilities of 0 and 1, and of a rounding error from them, included."""
    card = dataclasses.replace(joined_heads.TFLITE, n_scores=40, activation=activation)
    scores = np.random.default_rng(0).normal(0, 3, (9, 40)).astype(np.float32)
    scores = {"logits": lambda x: x, "sigmoid": expit, "softmax": lambda x: softmax(x, axis=1)}[activation](scores)
    if activation != "logits":
        scores[0, :6] = 0, 1, 1 - 2.0**-24, 1 - 2.0**-23, 1e-8, 3e-7
    embeddings = np.random.default_rng(1).random((9, WIDTH)).astype(np.float32)
    facts = joined_heads.facts_of(card)
    encoder = Encoder(card, facts, 40, 0, lambda batch: [embeddings[: len(batch)], scores[: len(batch)]])
    wanted = encoder.embed_and_logits(np.zeros((9, card.n_samples), np.float32))
    columns = (*range(6), 30, 8)
    x = np.concatenate([embeddings, scores[:, columns]], axis=1)
    found = keras.ops.convert_to_numpy(EncoderOutput(card, columns).features(keras.ops.convert_to_tensor(x)))
    assert np.array_equal(found[:, :WIDTH], wanted[0])
    assert np.abs(found[:, WIDTH:] - wanted[1][:, columns]).max() <= tolerances.OWN_LOGITS
