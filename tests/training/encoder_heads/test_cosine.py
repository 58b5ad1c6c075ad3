"""Directions of the heads "cosine" and "probe": similarities and minimum by brute force, tokens, absent classes."""

import dataclasses

import numpy as np
import pytest
import tolerances
from embedded_clips import clips_with_class_in_tokens, embedded_clips, head_experiment
from scipy.special import log_softmax, logsumexp

from birdnet_fs.models.heads.on_tokens import SHARPNESS
from birdnet_fs.training.encoder_heads.cosine import fit_directions, largest, similarities, solve_cosine
from birdnet_fs.training.encoder_heads.logistic import CrossEntropy
from birdnet_fs.training.encoder_heads.transform import fit_transform

RNG = np.random.default_rng(0)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def similarity(x: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """By brute force: x [n, width] or [n, n_tokens, width], directions [width, n_classes, n_prototypes]."""
    width, n_classes, n = directions.shape
    found = np.zeros((len(x), n_classes))
    for i, c in np.ndindex(found.shape):
        tokens = unit(x[i].reshape(-1, width))
        best = np.array([max(tokens @ unit(directions[:, c, k])) for k in range(n)])
        found[i, c] = logsumexp(SHARPNESS * best, b=1 / n) / SHARPNESS
    return found


@pytest.mark.parametrize("n_tokens", [0, 4])
@pytest.mark.parametrize("n_prototypes", [1, 3])
def test_similarities_equal_brute_force(n_tokens, n_prototypes):
    x = RNG.standard_normal((6, n_tokens, 5) if n_tokens else (6, 5))
    directions = RNG.standard_normal((5, 2, n_prototypes))
    cosines, _ = largest(unit(x) @ unit(directions.reshape(5, -1).T).T)
    found, parts = similarities(cosines, n_prototypes)
    np.testing.assert_allclose(found, similarity(x, directions), atol=tolerances.FLOAT64_SUMS)
    np.testing.assert_allclose(parts.sum(2), 1)


@pytest.mark.parametrize("n_tokens", [0, 4])
@pytest.mark.parametrize("n_prototypes", [1, 2])
def test_directions_are_a_minimum(n_tokens, n_prototypes):
    """Small steps in random directions are not better, by brute force."""
    x = RNG.standard_normal((20, n_tokens, 4) if n_tokens else (20, 4))
    targets = np.eye(3)[np.arange(20) % 3]
    loss = CrossEntropy(targets, np.full(20, 0.05), False, None, np.ones(3, bool))
    start = RNG.standard_normal((4, 3, n_prototypes))

    def cost(directions):
        return -(targets * log_softmax(5 * similarity(x, directions), axis=1)).sum() / 20

    found = fit_directions(x, loss, 5.0, start)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), 1)
    best = cost(found)
    assert best < cost(start) - 0.1
    steps = 0.05 * RNG.standard_normal((20, *found.shape))
    assert best < min(cost(found + step) for step in steps)


def test_a_small_scale_keeps_class_means_apart_and_absent_classes_score_lowest():
    data, experiment = embedded_clips(), head_experiment("cosine", transform="none")
    data.targets[:, 2] = 0
    transform = fit_transform(data, root=False, each=False)
    model = dataclasses.replace(experiment.model, logit_scale=4.0)
    (solution,) = solve_cosine(data, transform, [model], experiment)
    logits, labeled = solution.score(data), data.targets[data.clip].any(1)
    assert not solution.weights["logits/kernel"][:, 2].any() and (logits[:, 2] < logits[:, :2].min(1)).all()
    assert (logits.argmax(1) == data.targets.argmax(1)[data.clip])[labeled].mean() > 0.9


def test_probe_on_tokens_reads_their_mean_as_well():
    data, experiment = clips_with_class_in_tokens(), head_experiment("probe", transform="none", n_prototypes=2)
    transform = fit_transform(data, root=False, each=False, tokens=True)
    model = dataclasses.replace(experiment.model, logit_scale=8.0)
    (solution,) = solve_cosine(data, transform, [model], experiment)
    x = transform(data.features)
    directions = solution.weights["logits/prototypes"].reshape(-1, 3, 2)
    expected = 8 * similarity(np.concatenate([x, x.mean(1, keepdims=True)], axis=1), directions)
    np.testing.assert_allclose(solution.score(data), expected, atol=tolerances.PROTOTYPE_LOGITS * 8)
