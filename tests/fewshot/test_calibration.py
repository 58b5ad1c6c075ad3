"""Calibration of prototype heads by brute force: thresholds, scales and the class "unknown"."""

import tracemalloc

import numpy as np
import pytest
import tolerances
from scipy.special import expit, logsumexp

from birdnet_fs.core.errors import UserError
from birdnet_fs.fewshot import calibration
from birdnet_fs.fewshot.calibration import ACCEPTED_SHARE, EmbeddingDistance, calibrate


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_unknown_threshold_lies_between_support_and_background():
    """Two classes on two axes, background on a third: the threshold is half-way between the nearest on either side."""
    rng = np.random.default_rng(0)
    axes = np.eye(3, dtype=np.float32)
    points = np.concatenate([axes[i] + 0.05 * rng.normal(size=(6, 3)) for i in (0, 1)]).astype(np.float32)
    labels = ("a",) * 6 + ("b",) * 6
    base = EmbeddingDistance("cosine", np.zeros(3, np.float32))
    background = (axes[2] + 0.05 * rng.normal(size=(20, 3))).astype(np.float32)
    head = calibrate(labels, points, background, base, unknown=True)
    own = []
    for i in range(12):  # by brute force, each clip left out of its prototype
        others = [j for j in range(12) if j // 6 == i // 6 and j != i]
        own.append(unit(points[i]) @ unit(unit(points[others]).mean(0)))
    other = (unit(background) @ unit(head.prototypes).T).max(1)
    assert max(other) < min(own)
    middle = (max(other) + min(own)) / 2
    assert head.unknown / head.scale == pytest.approx(middle, abs=tolerances.PROTOTYPE_LOGITS)
    quiet = calibrate(labels, points, np.empty((0, 3), np.float32), base, unknown=True)
    kept = np.mean(np.array(own) > quiet.unknown / quiet.scale)
    assert kept >= ACCEPTED_SHARE - 1 / 12
    assert calibrate(labels, points, background, base, unknown=False).unknown is None


def test_best_threshold_memory_grows_linearly():
    """The threshold of brute force, in memory that grows with the number of windows and not with its square."""
    rng = np.random.default_rng(3)
    own, other = rng.normal(1.0, 1.0, 40).round(1), rng.normal(-1.0, 1.0, 5000).round(3)
    tracemalloc.start()
    found = calibration._best_threshold(own, other)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rates = [np.mean(own > cut) + np.mean(other < cut) for cut in np.linspace(-4, 4, 4001) + 1e-4]
    assert np.mean(own > found) + np.mean(other < found) >= max(rates)
    assert peak < 100 * 8 * (len(own) + len(other))


@pytest.mark.parametrize(("separation", "size"), [(1.0, 1.0), (30.0, 1.0), (1.0, 1e4), (0.0, 1e-3)])
def test_scale_minimizes_cross_entropy_with_platt_targets(separation: float, size: float):
    """Cross-entropy by brute force, for classes that overlap, that are far apart and that are equal."""
    rng = np.random.default_rng(1)
    points = size * (separation * np.repeat(np.eye(4), 5, axis=0) + 0.4 * rng.normal(size=(20, 4)))
    labels = ["abcd"[i // 5] for i in range(20)]
    nothing = np.empty((0, 4))
    for unknown in (False, True):
        head = calibrate(
            labels, points.astype(np.float32), nothing, EmbeddingDistance("euclidean", None), unknown=unknown
        )

        def cost(scale: float, head=head) -> float:
            total = 0.0
            for i in range(20):
                means = [points[[j for j in range(20) if j // 5 == c and j != i]].mean(0) for c in range(4)]
                logits = [-scale * np.square(points[i] - mean).sum() for mean in means]
                if head.unknown is not None:
                    logits.append(scale * head.unknown / head.scale)
                log_p = np.array(logits) - logsumexp(logits)
                wanted = np.full(len(logits), 1 / 22 / (len(logits) - 1))
                wanted[i // 5] = 21 / 22
                total -= wanted @ log_p
            return total

        best = cost(head.scale)
        assert best <= cost(head.scale * 1.01)
        if separation:
            assert best <= cost(head.scale / 1.01)


def test_one_clip_per_class_uses_similarity_of_next_class():
    """And the scale is that of clips half-way between their class and the next."""
    points = unit(np.random.default_rng(4).normal(size=(5, 3)))
    head = calibrate(
        "abcde", points.astype(np.float32), np.empty((0, 3)), EmbeddingDistance("cosine", np.zeros(3)), unknown=True
    )
    similarities = points @ points.T
    others = np.where(np.eye(5, dtype=bool), -np.inf, similarities).max(1)
    assert head.unknown / head.scale == pytest.approx(np.median(others))
    np.fill_diagonal(similarities, (1 + others) / 2)
    similarities = np.column_stack([similarities, np.full(5, np.median(others))])

    def cost(scale: float) -> float:
        log_p = scale * similarities - logsumexp(scale * similarities, axis=1, keepdims=True)
        return -(np.where(np.eye(5, 6), 6 / 7, 1 / 7 / 5) * log_p).sum()

    assert cost(head.scale) <= min(cost(head.scale / 1.01), cost(head.scale * 1.01))


def test_one_class_against_unknown():
    """The probabilities do not depend on the unit of the distance."""
    rng = np.random.default_rng(2)
    for size in (1e-3, 1e3):
        points = (size * rng.normal(size=(30, 3))).astype(np.float32)
        head = calibrate(
            ["a"] * 30, points, (size * (8 + points / size)), EmbeddingDistance("euclidean", None), unknown=True
        )
        logits = -head.scale * np.square(points - head.prototypes).sum(1)
        assert np.mean(expit(logits - head.unknown)) > 0.8
    with pytest.raises(UserError, match="cannot be calibrated on one clip of one class"):
        calibrate(["a"], points[:1], np.empty((0, 3)), EmbeddingDistance("euclidean", None), unknown=True)
