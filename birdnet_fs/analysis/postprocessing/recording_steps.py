"""Steps that look at the scores of one recording alone: neighboring windows, the whole recording, its other classes.

All of them come from solutions to BirdCLEF, where they were kept because a leaderboard rose. What they change on other
recordings has to be measured (docs/decisions.md). Scores stay in 0..1, but are no longer calibrated. A recording has
one window or more.
"""

import numpy as np
from numpy.typing import NDArray

KERNEL = (0.1, 0.2, 0.4, 0.2, 0.1)
Scores = NDArray[np.float32]


def smooth(scores: Scores, kernel: tuple[float, ...] = KERNEL) -> Scores:
    """Weighted mean of each window and its neighbors; beyond the ends of the recording the first and last repeat.

    Source: third place of BirdCLEF 2024 (H. Shugaev), weights .1 .2 .4 .2 .1 for windows of 5 s.

    Args:
        scores: float32 [n_windows, n_classes].
        kernel: An odd number of weights, of which the middle one is of the window itself. They are divided by their
            sum. Default: KERNEL.

    Returns:
        float32 [n_windows, n_classes].
    """
    weights = np.asarray(kernel, np.float64) / np.sum(kernel)
    half = len(weights) // 2
    padded = np.pad(scores.astype(np.float64), ((half, half), (0, 0)), mode="edge")
    found = sum(weight * padded[i : i + len(scores)] for i, weight in enumerate(weights))
    return np.asarray(found, np.float32)


def delta(scores: Scores, alpha: float = 0.2) -> Scores:
    """Draw uncertain windows towards their neighbors: alpha x (1 - highest score of the window) of the way.

    Source: public notebooks of BirdCLEF+ 2026 ("adaptive delta smoothing", alpha .2).

    Args:
        scores: float32 [n_windows, n_classes].
        alpha: Largest share of the mean of both neighbors, 0..1. Default: 0.2.

    Returns:
        float32 [n_windows, n_classes]; at an end, the window itself is the missing neighbor.
    """
    x = scores.astype(np.float64)
    padded = np.pad(x, ((1, 1), (0, 0)), mode="edge")
    share = alpha * (1 - x.max(axis=1, keepdims=True, initial=0))
    return np.asarray((1 - share) * x + share * (padded[:-2] + padded[2:]) / 2, np.float32)


def file_topk(scores: Scores, k: int = 1, power: float = 1.0) -> Scores:
    """Multiply each class by the mean of its k highest scores in the recording.

    A species that is certain in one window is then more credible in the others than one that is certain in none.

    Sources: Sydorskyi & Goncalves 2025, second place of BirdCLEF+ 2025, https://ceur-ws.org/Vol-4038/paper_256.pdf
    (k = 1, power 1); public notebooks of BirdCLEF+ 2026 (k = 2, power .4: "file confidence scale"; k = 1, power .4:
    "rank-aware scaling").

    Args:
        scores: float32 [n_windows, n_classes].
        k: Number of windows, 1 or more. Default: 1.
        power: Exponent of the mean, 0 (no change) or more. Default: 1.

    Returns:
        float32 [n_windows, n_classes].
    """
    x = scores.astype(np.float64)
    highest = np.sort(x, axis=0)[-k:].mean(axis=0)
    return np.asarray(x * highest**power, np.float32)


def tail_power(scores: Scores, top: int = 30, power: float = 2.0) -> Scores:
    """Raise the scores of all but the `top` classes of the recording to a power, by their highest scores.

    Source: "Post-Processing with Power Adjustment for Low-Ranked Classes", public notebook of BirdCLEF+ 2025
    (https://www.kaggle.com/code/myso1987/post-processing-with-power-adjustment-for-low-rank), top 30 of 206, power 2.

    Args:
        scores: float32 [n_windows, n_classes].
        top: Number of classes that are not changed, 0 or more. Default: 30.
        power: Exponent, 1 (no change) or more. Default: 2.

    Returns:
        float32 [n_windows, n_classes].
    """
    order = np.argsort(-scores.max(axis=0), kind="stable")
    found = scores.astype(np.float64)
    found[:, order[top:]] **= power
    return np.asarray(found, np.float32)
