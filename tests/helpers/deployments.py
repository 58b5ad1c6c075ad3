"""Simulated deployments: scores and truth of windows of recordings, and how often intervals of thresholds cover."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from birdnet_fs.analysis.calibration.thresholds import choose_thresholds


@dataclass(frozen=True)
class Deployment:
    """Recordings at one site.

    Attributes:
        n_recordings: Number of labeled recordings.
        n_windows: Windows of each.
        spread: Standard deviation of the level of all scores of a recording.
        neighbors: Share of recordings in which another species that sounds like the class raises its scores.
        loudness: Mean log-odds of windows with the class; a network is weaker where it is lower.
    """

    n_recordings: int = 50
    n_windows: int = 12
    spread: float = 0.5
    neighbors: float = 0.1
    loudness: float = 2.0

    def draw(self, rng, n_recordings=0):
        """Scores [n, 6], truth [n, 6] and the recording [n] of each window."""
        shape = (n_recordings or self.n_recordings, self.n_windows, 6)
        prevalence = np.linspace(0.03, 0.3, 6)
        share = rng.beta(prevalence * 4, (1 - prevalence) * 4, (shape[0], 6))  # species sing in some recordings a lot
        truth = rng.random(shape) < share[:, None]
        level = rng.normal(0, self.spread, (shape[0], 1, 6))
        has_neighbor = rng.random((shape[0], 1, 6)) < self.neighbors
        raised = has_neighbor * rng.normal(2.5, 1, (shape[0], 1, 6)) * (rng.random(shape) < 0.5)
        logits = np.where(truth, self.loudness, -2.5 + raised) + level + rng.normal(0, 1.2, shape)
        scores = expit(logits).reshape(-1, 6).astype(np.float32)
        return scores, truth.reshape(-1, 6), np.repeat(np.arange(shape[0]), self.n_windows)


class Coverage(NamedTuple):
    """Share of the thresholds that are given; of these, shares whose interval covers and whose precision suffices."""

    given: float
    covered: float
    reached: float


def coverage(deployment, *, n, precisions=(0.8, 0.9), n_true=20_000):
    """Simulate `n` deployments; the true precision is that of a deployment of `n_true` recordings."""
    scores, truth, _ = deployment.draw(np.random.default_rng(10**6), n_true)
    order = np.argsort(-scores, axis=0)
    sorted_scores = np.take_along_axis(scores, order, axis=0)
    right = np.cumsum(np.take_along_axis(truth, order, axis=0), axis=0)
    n_asked, rows = 0, []
    for number in range(n):
        chosen = choose_thresholds(*deployment.draw(np.random.default_rng((7, number))), precisions)
        for precision, classes in chosen.items():
            n_asked += len(classes)
            for c, each in enumerate(classes):
                if each.threshold is not None:
                    above = np.searchsorted(-sorted_scores[:, c], -np.float32(each.threshold), side="right")
                    true = right[above - 1, c] / above
                    rows.append((each.low <= true <= each.high, true >= precision))
    covered, reached = np.mean(rows, axis=0)
    return Coverage(len(rows) / n_asked, float(covered), float(reached))
