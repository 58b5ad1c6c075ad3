"""Blending of own scores: useful ones count, useless ones do not, and the logits are those of both by hand."""

import dataclasses

import numpy as np
import pytest

from birdnet_fs import schema
from birdnet_fs.models.heads.own_scores import build_head_with_own_scores
from birdnet_fs.training.encoder_heads import HeadData, fit_head
from birdnet_fs.training.encoder_heads.own_scores import blend_own_scores
from birdnet_fs.training.encoder_heads.scoring import calibrate

N, WIDTH, CLASSES = 60, 8, ("a", "b", "c")
EXPERIMENT = schema.Experiment(data=schema.Data(multi_label=True), model=schema.Model(encoder="x.onnx"))


def clips(signal: float) -> tuple[HeadData, np.ndarray]:
    """Clips of two windows whose embeddings carry `signal` of the labels, and logits of an encoder for a and c."""
    random = np.random.default_rng(0)
    targets = (random.random((N, 3)) < 0.4).astype(np.float32)
    means = random.normal(size=(3, WIDTH))
    rows = np.repeat(targets, 2, 0)
    features = (signal * rows @ means + random.normal(size=(2 * N, WIDTH))).astype(np.float32)
    own = (6 * rows[:, [0, 2]] - 3 + random.normal(size=(2 * N, 2))).astype(np.float32)
    return HeadData(features, np.repeat(np.arange(N), 2), targets, [str(i) for i in range(N)]), own


@pytest.mark.parametrize(("signal", "noise", "low", "high"), [(0.0, 0.0, 0.8, 1.0), (3.0, 1.0, 0.0, 0.2)])
def test_the_weight_follows_what_is_useful(signal, noise, low, high):
    data, own = clips(signal)
    own = (1 - noise) * own + noise * np.random.default_rng(1).normal(size=own.shape).astype(np.float32)
    fitted = fit_head(data, EXPERIMENT, CLASSES)
    blended = blend_own_scores(fitted, data, own, (0, 2), EXPERIMENT)
    assert low <= blended.choices["own_scores"]["weight"] <= high
    assert len(blended.choices["own_scores"]["candidates"]) == 11 and "2 of 3 classes" in blended.remarks[-1]


def test_logits_are_the_weighted_mean_of_both():
    data, own = clips(1.0)
    fitted = fit_head(data, EXPERIMENT, CLASSES)
    blended = blend_own_scores(fitted, data, own, (0, 2), EXPERIMENT)
    weight = blended.choices["own_scores"]["weight"]
    assert 0 < weight < 1
    network = build_head_with_own_scores(blended.model, (WIDTH + 2,), 3, 2)
    plain = build_head_with_own_scores(fitted.model, (WIDTH,), 3, 0)
    for model, weights in ((network, blended.weights), (plain, fitted.weights)):
        for variable in model.weights:
            variable.assign(weights[variable.path])
    found = network.predict(np.concatenate([data.features, own], 1), verbose=0)
    head = plain.predict(data.features, verbose=0)
    part = dataclasses.replace(data, targets=data.targets[:, [0, 2]])
    scale, shift = calibrate(own, part, multi_label=True)
    np.testing.assert_allclose(found[:, 1], head[:, 1], atol=1e-4)
    expected = (1 - weight) * head[:, [0, 2]] + weight * (own * scale + shift)
    np.testing.assert_allclose(found[:, [0, 2]], expected, atol=1e-4)


def test_without_groups_to_hold_out_both_count_the_same():
    data, own = clips(1.0)
    one = dataclasses.replace(data, groups=["same"] * N)
    blended = blend_own_scores(fit_head(one, EXPERIMENT, CLASSES), one, own, (0, 2), EXPERIMENT)
    assert blended.choices["own_scores"] == {"weight": 0.5, "candidates": []}
