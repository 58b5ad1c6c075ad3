"""Class-wise metrics of scores, exact and in NumPy: average precision, F1, accuracy, log-loss, bootstrap.

`macro_auroc` stands in `ranks`, whose ranks of the positives serve average precision and the best F1 as well.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.metrics.auroc import PositiveRanks, checked, mean_of_defined, positive_ranks


@dataclass(frozen=True)
class Interval:
    """A bootstrap confidence interval around `value`; nan where fewer than two groups leave it undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PrecisionRecallF1:
    """How rightly classes are called, each [n_classes]; nan where a class does not occur.

    A class that occurs and is never called has precision 0.
    """

    n: NDArray[np.int64]  # rows with the class
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]  # the accuracy of a class: the share of its rows that are called so
    f1: NDArray[np.float64]

    @property
    def macro(self) -> dict[str, float]:
        """Mean precision, recall and f1 over the classes that occur; nan when none does."""
        return {name: mean_of_defined(getattr(self, name)) for name in ("precision", "recall", "f1")}

    @property
    def weighted(self) -> dict[str, float]:
        """The same means, every class weighing as many rows as it occurs in."""
        held, total = self.n > 0, self.n.sum()
        names = ("precision", "recall", "f1")
        return {n: float(getattr(self, n)[held] @ self.n[held] / total) if total else float("nan") for n in names}


def precision_recall_f1(
    true_positive: ArrayLike, false_positive: ArrayLike, false_negative: ArrayLike
) -> PrecisionRecallF1:
    """Precision, recall and F1 of classes from their true positives, false positives and false negatives, [n_classes].

    >>> precision_recall_f1([3], [1], [0]).precision
    array([0.75])
    """
    true_positive, false_positive, false_negative = (
        np.asarray(counts, np.int64) for counts in (true_positive, false_positive, false_negative)
    )
    n = true_positive + false_negative
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(n > 0, true_positive / np.maximum(true_positive + false_positive, 1), np.nan)
        recall = np.where(n > 0, true_positive / n, np.nan)
        f1 = np.where(n > 0, 2 * true_positive / (n + true_positive + false_positive), np.nan)
    return PrecisionRecallF1(n, precision, recall, f1)


def precision_recall_f1_of_confusion(confusion: ArrayLike) -> PrecisionRecallF1:
    """The same from counts [n_classes, n_classes], the true class first."""
    table = np.asarray(confusion, np.int64)
    hit = np.diag(table)
    return precision_recall_f1(hit, table.sum(axis=0) - hit, table.sum(axis=1) - hit)


def average_precision(targets: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Area under the precision-recall steps of each class, as scikit-learn defines it.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers, higher = more likely. Tied scores are one step.

    Returns:
        Float64 [n_classes]; nan where a class has no positive.

    Raises:
        UserError: As `macro_auroc`.

    >>> average_precision([[0], [1], [1]], [[0.8], [0.9], [0.1]])
    array([0.83333333])
    """
    values = []
    for ranks in positive_ranks(targets, scores):
        called, found = _at_each_positive(ranks)
        values.append(float(np.mean(found / called)) if len(found) else np.nan)
    return np.array(values)


def cmap(targets: ArrayLike, scores: ArrayLike) -> float:
    """Mean average precision over the classes with a positive.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers, higher = more likely.

    Returns:
        The mean; nan when no class has a positive.

    Raises:
        UserError: As `macro_auroc`.
    """
    return mean_of_defined(average_precision(targets, scores))


def best_f1(targets: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Threshold of each class with the highest F1.

    A row is called when its score is at or above the threshold. Of thresholds with equal F1 the highest wins.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers, higher = more likely.

    Returns:
        The thresholds and their F1, both float64 [n_classes]; nan where a class has no positive.

    Raises:
        UserError: As `macro_auroc`.
    """
    thresholds, values = [], []
    for ranks in positive_ranks(targets, scores):
        called, found = _at_each_positive(ranks)
        if not len(found):
            thresholds.append(np.nan)
            values.append(np.nan)
            continue
        # between two positives F1 only falls, so the best threshold is the score of a positive
        value = (2 * found / (called + len(found)))[::-1]
        best = int(np.argmax(value))
        thresholds.append(float(ranks.positives[::-1][best]))
        values.append(float(value[best]))
    return np.array(thresholds), np.array(values)


def detection_counts(targets: ArrayLike, scores: ArrayLike, threshold: ArrayLike = 0.5) -> NDArray[np.int64]:
    """True positives, false positives, false negatives and true negatives at a threshold, [n_classes, 4].

    `threshold` is one number or [n_classes]; a score at the threshold is called. Errors as `macro_auroc`.
    """
    truth, scores = checked(targets, scores)
    called = scores >= np.asarray(threshold)
    table = [truth & called, ~truth & called, truth & ~called, ~truth & ~called]
    return np.stack([cell.sum(axis=0, dtype=np.int64) for cell in table], axis=1)


def f1(targets: ArrayLike, scores: ArrayLike, threshold: ArrayLike = 0.5) -> NDArray[np.float64]:
    """F1 of each class at a threshold, [n_classes]; nan where a class is neither present nor called."""
    hit, false, missed, _ = detection_counts(targets, scores, threshold).T
    with np.errstate(invalid="ignore"):
        return 2 * hit / (2 * hit + false + missed)


def accuracy(targets: ArrayLike, scores: ArrayLike) -> float:
    """Share of rows whose highest score is a true class (the first of equal scores); nan without rows."""
    truth, scores = checked(targets, scores)
    if not truth.size:
        return float("nan")
    return float(np.mean(truth[np.arange(len(truth)), scores.argmax(axis=1)]))


def exact_match(targets: ArrayLike, scores: ArrayLike, threshold: ArrayLike = 0.5) -> float:
    """Share of rows whose whole set of labels is right at a threshold; nan without rows."""
    truth, scores = checked(targets, scores)
    if not truth.size:
        return float("nan")
    return float(np.mean(((scores >= np.asarray(threshold)) == truth).all(axis=1)))


def confusion(targets: ArrayLike, scores: ArrayLike) -> NDArray[np.int64]:
    """Rows by true class and by highest score, [n_classes, n_classes]; rows without exactly one label are left out."""
    truth, scores = checked(targets, scores)
    single = truth.sum(axis=1) == 1
    n_classes = truth.shape[1]
    if not n_classes or not single.any():
        return np.zeros((n_classes, n_classes), np.int64)
    cell = truth[single].argmax(axis=1) * n_classes + scores[single].argmax(axis=1)
    return np.bincount(cell, minlength=n_classes**2).reshape(n_classes, n_classes)


def classification_report(targets: ArrayLike, scores: ArrayLike, *, multi_label: bool) -> PrecisionRecallF1:
    """How rightly probabilities call: with `multi_label` each class at 0.5, else the highest of a row with one label.

    Arguments and errors as `macro_auroc`.
    """
    if multi_label:
        hit, false, missed, _ = detection_counts(targets, scores).T
        return precision_recall_f1(hit, false, missed)
    return precision_recall_f1_of_confusion(confusion(targets, scores))


def log_loss(targets: ArrayLike, scores: ArrayLike, *, multi_label: bool) -> float:
    """Cross-entropy of probabilities: with `multi_label` the mean over all rows and classes of the binary one.

    Else the mean over rows with one label of minus the logarithm of its probability. A probability of 0 counts as the
    smallest float32 above it. nan without rows. Arguments and errors as `macro_auroc`.
    """
    truth, scores = checked(targets, scores)
    p = np.clip(scores.astype(np.float64), 0, 1)
    least = float(np.finfo(np.float32).tiny)
    if multi_label:
        wrong = np.where(truth, p, 1 - p)
        return float(-np.log(np.maximum(wrong, least)).mean()) if wrong.size else float("nan")
    single = truth.sum(axis=1) == 1
    told = p[single][truth[single]]
    return float(-np.log(np.maximum(told, least)).mean()) if len(told) else float("nan")


def bootstrap(
    fn: Callable[[NDArray, NDArray], float],
    targets: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    *,
    n: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Confidence interval of a metric by drawing whole groups with replacement (percentile bootstrap).

    Segments of one recording are alike, so recordings are drawn, not segments: drawing segments gives
    intervals that are far too narrow (Davison & Hinkley 1997, section 3.8).

    Args:
        fn: (targets, scores) -> number; draws for which it is nan are left out.
        targets: [n_rows, n_classes].
        scores: [n_rows, n_classes].
        groups: [n_rows], the recording or individual of each row.
        n: Draws.
        seed: Of the draws.
        level: Share of the draws inside the interval.

    Returns:
        The metric on all rows and its interval, widened to hold the metric where classes that drop out of
        some draws shift their mean away from it.

    Raises:
        UserError: Lengths differ, or what `fn` raises.
    """
    targets, scores, groups = np.asarray(targets), np.asarray(scores), np.asarray(groups)
    if not len(targets) == len(scores) == len(groups):
        raise UserError(
            "targets, scores and groups must have as many rows each. "
            f"Received: {len(targets)}, {len(scores)} and {len(groups)}"
        )
    value = float(fn(targets, scores))
    _, group = np.unique(groups, return_inverse=True)
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(group))[:-1]) if len(order) else []
    if len(members) < 2:
        return Interval(value, float("nan"), float("nan"))
    rng = generator(seed, Stream.BOOTSTRAP)
    draws = []
    for _ in range(n):
        rows = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        draws.append(float(fn(targets[rows], scores[rows])))
    found = np.array(draws)[~np.isnan(draws)]
    if not len(found) or np.isnan(value):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, min(float(low), value), max(float(high), value))


def _at_each_positive(ranks: PositiveRanks) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """With the threshold at each positive's score: how many rows are called, and how many of them rightly."""
    found = len(ranks.positives) - np.searchsorted(ranks.positives, ranks.positives, "left")
    return ranks.n_rows - ranks.n_below, found
