"""Slope and offset of the log-odds of each class, drawn towards those that all classes share.

Sources: Platt 1999, "Probabilistic Outputs for Support Vector Machines"; Guo et al. 2017,
https://arxiv.org/abs/1706.04599 (temperature: the offset is 0). A class with few positive windows would get a wild
slope from them alone, and one map for all classes can be worse than none (https://arxiv.org/abs/2511.08261: a global
temperature made one case 938 % worse). So the logarithm of the slope and the offset of a class have normal priors
around the shared map, whose widths are chosen on held-out recordings (fitting.py).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.inference.activations import to_probabilities

N_STEPS = 50
TOLERANCE = 1e-9  # of the objective, relative
N_HALVINGS = 30
LIMIT = 30.0  # larger log-odds are clipped: such scores are certain, and their size would only bend the slope
SHARED_WIDTH = 3.0  # standard deviation of the priors of log slope and offset of the shared map around 0; nearly flat
Floats = NDArray[np.float64]


class Prior(NamedTuple):
    """Widths of the normal priors of a class around the shared map; 0 = the shared value itself.

    Attributes:
        log_slope: Standard deviation of the logarithm of the slope.
        offset: Standard deviation of the offset.
    """

    log_slope: float
    offset: float


def fit_affine(
    log_odds: Floats, targets: Floats, *, center: tuple[float, float], prior: Prior, with_offset: bool = True
) -> tuple[Floats, Floats]:
    """The most probable slope and offset of each class, by Newton steps of Fisher's scoring with halving.

    Args:
        log_odds: float64 [n, n_classes].
        targets: float64 [n, n_classes], 0 or 1.
        center: Logarithm of the shared slope, and the shared offset.
        prior: Widths around them.
        with_offset: Whether there is an offset; else it is 0. Default: True.

    Returns:
        Slopes and offsets, float64 [n_classes] each.
    """
    x, y = np.clip(log_odds, -LIMIT, LIMIT), targets
    n_classes = x.shape[1]
    place = np.tile(np.array([center[0], center[1] if with_offset else 0.0]), (n_classes, 1))
    first = place.copy()
    widths = np.array([prior.log_slope, prior.offset if with_offset else 0.0])
    free = widths > 0
    weights = np.where(free, 1 / np.maximum(widths, 1e-12) ** 2, 0.0)
    value = _objective(x, y, place, first, weights)
    for _ in range(N_STEPS if free.any() else 0):
        slope = np.exp(place[:, 0])
        z = slope * x + place[:, 1]
        p = to_probabilities(z, "sigmoid")
        by_slope, spread = slope * x, p * (1 - p)
        gradient = np.stack([((p - y) * by_slope).sum(0), (p - y).sum(0)], axis=1) + weights * (place - first)
        hessian = np.zeros((n_classes, 2, 2))
        hessian[:, 0, 0] = (spread * by_slope**2).sum(0) + weights[0]
        hessian[:, 1, 1] = spread.sum(0) + weights[1]
        hessian[:, 0, 1] = hessian[:, 1, 0] = (spread * by_slope).sum(0) if free.all() else 0.0
        hessian[:, ~free, ~free] = 1.0
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), np.where(free, gradient, 0.0)[..., None])[..., 0]
        share = np.ones(n_classes)
        for _ in range(N_HALVINGS):
            trial = place - share[:, None] * step
            trial[:, 0] = trial[:, 0].clip(-5, 5)
            found = _objective(x, y, trial, first, weights)
            worse = found > value
            if not worse.any():
                break
            share = np.where(worse, share / 2, share)
        better = found <= value
        gain = np.where(better, value - found, 0.0)
        place = np.where(better[:, None], trial, place)
        value = np.where(better, found, value)
        if (gain <= TOLERANCE * (1 + np.abs(value))).all():
            break
    return np.exp(place[:, 0]), place[:, 1]


def fit_shared(log_odds: Floats, targets: Floats, *, with_offset: bool = True) -> tuple[float, float]:
    """The one map that fits all classes together.

    Args:
        log_odds: float64 [n, n_classes].
        targets: float64 [n, n_classes], 0 or 1.
        with_offset: Whether there is an offset. Default: True.

    Returns:
        Logarithm of the slope, and the offset.
    """
    slope, offset = fit_affine(
        log_odds.reshape(-1, 1),
        targets.reshape(-1, 1),
        center=(0.0, 0.0),
        prior=Prior(SHARED_WIDTH, SHARED_WIDTH),
        with_offset=with_offset,
    )
    return float(np.log(slope[0])), float(offset[0])


def log_loss(log_odds: Floats, targets: Floats) -> Floats:
    """Cross-entropy of log-odds [n, n_classes], summed over the rows: float64 [n_classes]."""
    return np.asarray((np.logaddexp(0, log_odds) - targets * log_odds).sum(axis=0))


def _objective(x: Floats, y: Floats, place: Floats, first: Floats, weights: Floats) -> Floats:
    z = np.exp(place[:, 0]) * x + place[:, 1]
    return log_loss(z, y) + (weights * (place - first) ** 2).sum(axis=1) / 2
