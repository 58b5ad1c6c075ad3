"""Calibration error: how far probabilities are from the share of rows with the class, too high and too low apart.

Source: Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
https://doi.org/10.1609/aaai.v29i1.9602 (expected calibration error, ECE, over bins of equal width). For classifiers of
animal sounds https://arxiv.org/abs/2511.08261 asks for the part of overconfidence beside that of underconfidence, for
rare and common classes apart, and for bootstrap intervals.

Each class is a question of its own (is it in the window?), so that its bins hold its probabilities in all rows. The
error of several classes is the mean of theirs. With few rows in a bin, chance alone makes the error larger than 0:
compare errors on the same rows only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birdnet_fs.metrics.auroc import checked, mean_of_defined
from birdnet_fs.metrics.bootstrap import Interval, bootstrap

N_BINS = 10
N_DRAWS = 200
RARE_BELOW = 20  # rows with a class that is called rare
MAX_CELLS, MIN_GROUPS = 1_000_000, 20  # numbers that a draw of the bootstrap adds, and fewest groups that are drawn


@dataclass(frozen=True)
class ReliabilityBins:
    """Counts of a reliability diagram, for each class.

    Attributes:
        n: int64 [n_classes, n_bins], number of rows whose probability lies in the bin.
        probability: float64 [n_classes, n_bins], sum of their probabilities.
        positives: float64 [n_classes, n_bins], number of them with the class.
    """

    n: NDArray[np.int64]
    probability: NDArray[np.float64]
    positives: NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationError:
    """Calibration error of each class.

    Attributes:
        over: float64 [n_classes], the part of bins whose mean probability is above the share of positives.
        under: float64 [n_classes], the part of the other bins.
        n_positives: int64 [n_classes], number of rows with the class.
    """

    over: NDArray[np.float64]
    under: NDArray[np.float64]
    n_positives: NDArray[np.int64]

    @property
    def ece(self) -> NDArray[np.float64]:
        """Expected calibration error of each class, float64 [n_classes] in 0..1: the sum of both parts."""
        return self.over + self.under


def reliability_bins(targets: ArrayLike, probabilities: ArrayLike, n_bins: int = N_BINS) -> ReliabilityBins:
    """Count rows in bins of equal width; UserErrors are those of `auroc.checked`.

    Args:
        targets: [n, n_classes], 0 or 1.
        probabilities: [n, n_classes] in 0..1.
        n_bins: Number of bins, 1 or more. Default: N_BINS.

    Returns:
        The bins of each class; a probability on the border of two belongs to the upper one, 1 to the last.
    """
    truth, p = checked(targets, probabilities)
    n_classes = truth.shape[1]
    which = np.clip((p.astype(np.float64) * n_bins).astype(np.int64), 0, n_bins - 1)
    cell = (np.arange(n_classes) * n_bins + which).ravel()

    def sums(weights: NDArray | None) -> NDArray:
        counted = np.bincount(cell, None if weights is None else weights.ravel(), minlength=n_classes * n_bins)
        return counted.reshape(n_classes, n_bins)

    return ReliabilityBins(sums(None), sums(p.astype(np.float64)), sums(truth.astype(np.float64)))


def error_of_bins(n: ArrayLike, probability: ArrayLike, positives: ArrayLike) -> CalibrationError:
    """Calibration error of counted rows.

    Args:
        n: [n_classes, n_bins], number of rows in each bin.
        probability: [n_classes, n_bins], sum of their probabilities.
        positives: [n_classes, n_bins], number of them with the class.

    Returns:
        The error of each class; nan without rows.
    """
    n, found = np.asarray(n), np.asarray(positives, np.float64)
    gap = np.asarray(probability, np.float64) - found  # number of rows x (mean probability - share of positives)
    with np.errstate(invalid="ignore", divide="ignore"):
        over, under = (np.maximum(sign * gap, 0).sum(axis=1) / n.sum(axis=1) for sign in (1, -1))
    return CalibrationError(over, under, found.sum(axis=1).astype(np.int64))


def calibration_error(targets: ArrayLike, probabilities: ArrayLike, n_bins: int = N_BINS) -> CalibrationError:
    """Calibration error of probabilities; UserErrors are those of `auroc.checked`.

    Args:
        targets: [n, n_classes], 0 or 1.
        probabilities: [n, n_classes] in 0..1.
        n_bins: Number of bins of equal width. Default: N_BINS.

    Returns:
        The error of each class.

    >>> found = calibration_error([[1], [0], [0], [0]], [[0.75], [0.75], [0.75], [0.75]])
    >>> found.over.tolist(), found.under.tolist()
    ([0.5], [0.0])
    """
    bins = reliability_bins(targets, probabilities, n_bins)
    return error_of_bins(bins.n, bins.probability, bins.positives)


def calibration_summary(
    targets: ArrayLike, probabilities: ArrayLike, groups: Sequence[object], *, n_draws: int = N_DRAWS, seed: int = 0
) -> Mapping[str, Mapping[str, Interval]]:
    """Mean errors of the classes that occur, with bootstrap intervals of whole recordings.

    Args:
        targets: [n, n_classes], 0 or 1.
        probabilities: [n, n_classes] in 0..1.
        groups: [n], recording or individual of each row.
        n_draws: Draws of the bootstrap. Default: N_DRAWS.
        seed: Seed of the draws. Default: 0.

    Returns:
        "all", "common" (classes with `RARE_BELOW` rows or more) and "rare" -> "ece", "over" and "under" -> value and
        95 % interval; nan where there is no such class.
    """
    truth, p = checked(targets, probabilities)
    n_classes = truth.shape[1]
    _, group = np.unique(np.array([str(g) for g in groups]), return_inverse=True)
    n_groups = int(group.max(initial=-1)) + 1
    # bins of each group, so that a draw adds groups instead of rows; of many recordings, some are drawn together
    n_groups = min(n_groups, max(MIN_GROUPS, MAX_CELLS // max(3 * n_classes * N_BINS, 1)))
    every_group, by_group = np.arange(n_groups), np.zeros((n_groups, 3, n_classes, N_BINS))
    for g in every_group:
        rows = group % n_groups == g
        bins = reliability_bins(truth[rows], p[rows])
        by_group[g] = bins.n, bins.probability, bins.positives
    n_positives = truth.sum(axis=0)
    kept = {
        "all": n_positives > 0,
        "common": n_positives >= RARE_BELOW,
        "rare": (n_positives > 0) & (n_positives < RARE_BELOW),
    }

    def interval(classes: NDArray[np.bool_], part: str) -> Interval:
        def value(drawn: NDArray, _: NDArray) -> float:
            sums = np.tensordot(np.bincount(drawn, minlength=n_groups), by_group, axes=1)
            return mean_of_defined(getattr(error_of_bins(*sums), part)[classes])

        return bootstrap(value, every_group, every_group, every_group, n_draws=n_draws, seed=seed)

    parts = ("ece", "over", "under")
    return {name: {part: interval(classes, part) for part in parts} for name, classes in kept.items()}
