"""Blending of own scores: useful ones count, useless ones do not, and the logits are those of both by hand."""

import dataclasses

import numpy as np
import pytest
import tolerances
from sklearn.metrics import roc_auc_score

from birdnet_fs import schema
from birdnet_fs.core.settings import override
from birdnet_fs.models.heads.own_scores import build_head_with_own_scores
from birdnet_fs.training.encoder_heads import HeadData, fit_head
from birdnet_fs.training.encoder_heads.choosing import solve
from birdnet_fs.training.encoder_heads.data import Views
from birdnet_fs.training.encoder_heads.logistic import fit_logistic
from birdnet_fs.training.encoder_heads.own_scores import calibrated_own_scores
from birdnet_fs.training.encoder_heads.rows import training_rows
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


def with_own_scores(data: HeadData, own: np.ndarray):
    return fit_head(data, EXPERIMENT, CLASSES, calibrated_own_scores(own, (0, 2), data, multi_label=True))


@pytest.mark.parametrize(("signal", "noise", "low", "high"), [(0.0, 0.0, 0.8, 1.0), (3.0, 1.0, 0.0, 0.2)])
def test_the_weight_follows_what_is_useful(signal, noise, low, high):
    data, own = clips(signal)
    own = (1 - noise) * own + noise * np.random.default_rng(1).normal(size=own.shape).astype(np.float32)
    blended = with_own_scores(data, own)
    assert low <= blended.choices["own_scores"]["weight"] <= high
    assert len(blended.choices["own_scores"]["candidates"]) == 11 and "2 of 3 classes" in blended.remarks[-1]


def test_logits_are_the_weighted_mean_of_both():
    data, own = clips(1.0)
    fitted = fit_head(data, EXPERIMENT, CLASSES)
    blended = with_own_scores(data, own)
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
    blended = with_own_scores(one, own)
    assert blended.choices["own_scores"] == {"weight": 0.5, "candidates": []}


def standardized(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64)


@pytest.mark.parametrize("multi_label", [True, False])
def test_own_scores_as_features_are_standardized_inputs_of_a_logistic_regression(multi_label):
    """The logits are those of the same regression on embeddings and standardized own scores side by side."""
    data, own = clips(1.0)
    if not multi_label:
        targets = np.eye(3, dtype=np.float32)[np.arange(N) % 3]
        data = dataclasses.replace(data, targets=targets)
    both = dataclasses.replace(data, own=own)
    given = ["model.encoder_head.l2=0.01", "model.encoder_head.transform=none", f"data.multi_label={multi_label}"]
    experiment = override(EXPERIMENT, given)
    [found] = solve(both, [experiment.model], experiment)
    embedding, scores = standardized(data.features) / np.sqrt(WIDTH), standardized(own) / np.sqrt(2)
    side_by_side = np.concatenate([embedding, scores], axis=1)
    rows = training_rows(data, side_by_side, experiment)
    kernel, bias = fit_logistic(rows.x, rows.loss, 0.01)
    expected = side_by_side @ rows.to_width(kernel) + bias
    np.testing.assert_allclose(found.score(both), expected, atol=tolerances.LOGISTIC)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_network_gives_the_logits_that_were_fitted(head):
    data, own = clips(0.5)
    both = dataclasses.replace(data, own=own)
    settings = [f"model.head={head}", "model.encoder_head.epochs=200", "model.encoder_head.mixup=0"]
    experiment = override(EXPERIMENT, [*settings, "model.encoder_head.own_scores=features"])
    fitted = fit_head(both, experiment, CLASSES)
    network = build_head_with_own_scores(fitted.model, (WIDTH + 2,), 3, 2)
    for variable in network.weights:
        if variable.path in fitted.weights:
            variable.assign(fitted.weights[variable.path])
    logits = network.predict(both.inputs, verbose=0)
    auroc = [roc_auc_score(both.targets[both.clip][:, c], logits[:, c]) for c in (0, 2)]
    assert min(auroc) > 0.95  # the own scores separate by 6 deviations, the embeddings do not
    assert both.part(np.array([1, 3])).own.tolist() == own[[2, 3, 6, 7]].tolist()
    [solution] = solve(both, [fitted.model], experiment)
    weights = solution.weights
    for variable in network.weights:
        if variable.path in weights:
            variable.assign(weights[variable.path])
    np.testing.assert_allclose(network.predict(both.inputs, verbose=0), solution.score(both), atol=1e-4)


def test_views_have_own_scores_too():
    data, own = clips(0.0)
    order = np.arange(N)
    views = Views(data.features, data.clip, order, order, data.targets, own)
    both = dataclasses.replace(data, own=own, augmented=views)
    assert both.with_views().own.shape == (4 * N, 2) and both.part(order[:5]).augmented.own.shape == (10, 2)
    experiment = override(EXPERIMENT, ["model.encoder_head.l2=0.01"])
    one, two = (fit_head(each, experiment, CLASSES) for each in (dataclasses.replace(both, augmented=None), both))
    kernel = "logits/kernel"
    np.testing.assert_allclose(two.weights[kernel], one.weights[kernel], rtol=1e-3, atol=1e-3)  # as without views
