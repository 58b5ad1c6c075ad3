"""Intervals of a share of right detections whose detections come in recordings.

Sources: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953 (the interval); Kish 1965, "Survey Sampling" (the
design effect 1 + (mean cluster size - 1) x correlation, by which the number of detections is divided); Dean & Pagano
2015, https://doi.org/10.1093/jssam/smv024 (Wilson's interval with the effective number is among the best for shares of
clustered samples).

Detections in one recording are right or wrong together: a neighbor that sounds like the class sings all morning. The
correlation within recordings of a class is estimated from its detections and, as far as these are few, from those of
all classes. Where nothing is known of it, it is 1: each recording counts as one detection.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

LEVEL = 0.95


class Share(NamedTuple):
    """A share and its interval.

    Attributes:
        value: The share, 0..1; nan without detections.
        low: Lower end; 0 without detections.
        high: Upper end; 1 without detections.
    """

    value: float
    low: float
    high: float


def effective_numbers(recordings: ArrayLike, correlation: float) -> NDArray[np.float64]:
    """Number of independent detections as informative as the first ones of a list.

    Args:
        recordings: [n], recording of each detection.
        correlation: Correlation of right and wrong between two detections of one recording, 0..1.

    Returns:
        float64 [n], for the first, the first two, ... detections: between the number of recordings (correlation 1,
        equal sizes) and that of detections.

    >>> effective_numbers(["a", "a", "b", "b"], 1.0).round(2).tolist()
    [1.0, 1.0, 1.8, 2.0]
    """
    _, group = np.unique(np.asarray(recordings), return_inverse=True)
    n = np.arange(1, len(group) + 1)
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    before = np.empty(len(group), np.int64)  # earlier detections in the same recording
    before[order] = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    squares = np.cumsum(2 * before + 1)  # sum of the squared numbers of detections in each recording
    return np.asarray(n / (1 + (squares / n - 1) * correlation))


def wilson(right: ArrayLike, n: ArrayLike, z: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wilson's intervals.

    Args:
        right: [...], numbers of right detections, 0..n; fractions where `n` are effective numbers.
        n: [...], numbers of detections, above 0.
        z: Quantile of the normal distribution, 1.96 for 95 %.

    Returns:
        Lower and upper ends, float64 [...] in 0..1 each.
    """
    m = np.asarray(n, np.float64)
    p = np.asarray(right, np.float64) / m
    middle, width = p + z**2 / (2 * m), z * np.sqrt(np.maximum(p * (1 - p), 0) / m + z**2 / (4 * m**2))
    low, high = ((middle + sign * width) / (1 + z**2 / m) for sign in (-1, 1))
    return np.maximum(low, 0.0), np.minimum(high, 1.0)


def share_right(right: ArrayLike, recordings: ArrayLike, correlation: float, level: float = LEVEL) -> Share:
    """Share of right detections with its two-sided interval.

    Args:
        right: [n], 1 for a right detection, else 0.
        recordings: [n], recording of each.
        correlation: Within recordings, from `correlations_within`.
        level: Coverage of the interval. Default: 0.95.

    Returns:
        The share and its interval.
    """
    correct = np.asarray(right, np.float64)
    if not len(correct):
        return Share(float("nan"), 0.0, 1.0)
    p, n = float(correct.mean()), float(effective_numbers(recordings, correlation)[-1])
    low, high = wilson(p * n, n, float(norm.ppf((1 + level) / 2)))
    return Share(p, float(low), float(high))


def correlations_within(detections: Sequence[tuple[NDArray, NDArray]]) -> NDArray[np.float64]:
    """Correlation of right and wrong between two detections of a class in one recording.

    Args:
        detections: (right [n], recording [n]) of the detections of each class.

    Returns:
        float64 [n_classes] in 0..1, from the products of deviations from the share of the class, drawn towards that of
        all classes with the weight of an average class; 1 where no two detections of a class that is sometimes wrong
        share a recording.
    """
    found = np.array([_products(*each) for each in detections]).reshape(-1, 2)
    products, expected = found.T
    if expected.sum() <= 0:
        return np.ones(len(found))
    of_all = np.clip(products.sum() / expected.sum(), 0, 1)
    weight = expected.mean()
    return np.asarray(np.clip((products + weight * of_all) / (expected + weight), 0, 1))


def _products(right: NDArray, recordings: NDArray) -> tuple[float, float]:
    """Sum over pairs in a recording of the products of deviations, and what it would be with correlation 1."""
    n = len(right)
    if n < 2:
        return 0.0, 0.0
    deviation = right - right.mean()
    _, group = np.unique(recordings, return_inverse=True)
    sums, squares, sizes = (np.bincount(group, w) for w in (deviation, deviation**2, np.ones(n)))
    pairs, variance = float((sizes * (sizes - 1)).sum()), float(deviation.var()) * n / (n - 1)
    # deviations from the mean of the same detections are correlated by -1 / (n - 1)
    return float((sums**2 - squares).sum()) + variance * pairs / n, variance * pairs
