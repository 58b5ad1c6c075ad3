"""Class-wise metrics of scores, exact and in NumPy: average precision, F1, accuracy, log-loss.

Targets and scores are validated by `auroc.checked`, whose UserErrors every function here passes on: shapes differ, a
score is not a real number or is NaN, or a target is neither 0 nor 1. `macro_auroc` is in auroc.py.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birdnet_fs.metrics.auroc import PositiveRanks, checked, mean_of_defined, positive_ranks


@dataclass(frozen=True)
class PrecisionRecallF1:
    """Precision, recall and F1 of each class.

    Attributes:
        n: int64 [n_classes], number of rows with the class.
        n_predicted: int64 [n_classes], number of rows that are predicted as it.
        precision: float64 [n_classes]; nan where a class does not occur, 0 where it occurs and is never predicted.
        recall: float64 [n_classes], share of the rows of a class that are predicted as it (the accuracy of the class);
            nan where it does not occur.
        f1: float64 [n_classes]; nan where a class does not occur.
    """

    n: NDArray[np.int64]
    n_predicted: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]

    @property
    def macro(self) -> dict[str, float]:
        """Mean precision, recall and f1 over the classes that occur; nan when none does."""
        return {name: mean_of_defined(getattr(self, name)) for name in ("precision", "recall", "f1")}

    @property
    def weighted(self) -> dict[str, float]:
        """The same means, each class weighted by the number of its rows."""
        occurs, total = self.n > 0, self.n.sum()
        names = ("precision", "recall", "f1")
        return {n: float(getattr(self, n)[occurs] @ self.n[occurs] / total) if total else float("nan") for n in names}


def precision_recall_f1(
    true_positive: ArrayLike, false_positive: ArrayLike, false_negative: ArrayLike
) -> PrecisionRecallF1:
    """Precision, recall and F1 of classes from counts.

    Args:
        true_positive: [n_classes], rows with the class that are predicted as it.
        false_positive: [n_classes], rows without the class that are predicted as it.
        false_negative: [n_classes], rows with the class that are not predicted as it.

    Returns:
        Arrays [n_classes].

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
    return PrecisionRecallF1(n, true_positive + false_positive, precision, recall, f1)


def precision_recall_f1_from_confusion(confusion: ArrayLike) -> PrecisionRecallF1:
    """Precision, recall and F1 of classes from a confusion matrix, counts [n_classes, n_classes], rows = true class."""
    table = np.asarray(confusion, np.int64)
    correct = np.diag(table)
    return precision_recall_f1(correct, table.sum(axis=0) - correct, table.sum(axis=1) - correct)


def average_precision(targets: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Area under the precision-recall steps of each class, as scikit-learn defines it.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers, higher = more likely. Tied scores are one step.

    Returns:
        float64 [n_classes]; nan where a class has no positive.

    >>> average_precision([[0], [1], [1]], [[0.8], [0.9], [0.1]])
    array([0.83333333])
    """
    values = []
    for positives in positive_ranks(targets, scores):
        n_predicted, n_correct = _at_each_positive(positives)
        values.append(float(np.mean(n_correct / n_predicted)) if len(n_correct) else np.nan)
    return np.array(values)


def cmap(targets: ArrayLike, scores: ArrayLike) -> float:
    """Mean average precision over the classes with a positive.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers, higher = more likely.

    Returns:
        The mean; nan when no class has a positive.
    """
    return mean_of_defined(average_precision(targets, scores))


def best_f1(targets: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Threshold of each class with the highest F1.

    A row is predicted positive when its score is at or above the threshold. Of thresholds with equal F1 the highest is
    returned.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers, higher = more likely.

    Returns:
        The thresholds and their F1, both float64 [n_classes]; nan where a class has no positive.
    """
    thresholds, values = [], []
    for positives in positive_ranks(targets, scores):
        n_predicted, n_correct = _at_each_positive(positives)
        if not len(n_correct):
            thresholds.append(np.nan)
            values.append(np.nan)
            continue
        # between two positives F1 only falls, so the best threshold is the score of a positive
        value = (2 * n_correct / (n_predicted + len(n_correct)))[::-1]
        best = int(np.argmax(value))
        thresholds.append(float(positives.positives[::-1][best]))
        values.append(float(value[best]))
    return np.array(thresholds), np.array(values)


def detection_counts(targets: ArrayLike, scores: ArrayLike, threshold: ArrayLike = 0.5) -> NDArray[np.int64]:
    """Counts of right and wrong predictions at a threshold.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers, higher = more likely.
        threshold: One number or [n_classes]; a score at or above it predicts the class. Default: 0.5.

    Returns:
        int64 [n_classes, 4]: true positives, false positives, false negatives, true negatives.
    """
    truth, scores = checked(targets, scores)
    predicted = scores >= np.asarray(threshold)
    table = [truth & predicted, ~truth & predicted, truth & ~predicted, ~truth & ~predicted]
    return np.stack([cell.sum(axis=0, dtype=np.int64) for cell in table], axis=1)


def f1(targets: ArrayLike, scores: ArrayLike, threshold: ArrayLike = 0.5) -> NDArray[np.float64]:
    """F1 of each class at a threshold.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers, higher = more likely.
        threshold: One number or [n_classes]; a score at or above it predicts the class. Default: 0.5.

    Returns:
        float64 [n_classes]; nan where a class is neither present nor predicted.
    """
    true_positive, false_positive, false_negative, _ = detection_counts(targets, scores, threshold).T
    with np.errstate(invalid="ignore"):
        return 2 * true_positive / (2 * true_positive + false_positive + false_negative)


def accuracy(targets: ArrayLike, scores: ArrayLike) -> float:
    """Share of rows whose highest score is a true class (the first of equal scores); nan without rows.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers, higher = more likely.

    Returns:
        The share, 0..1.
    """
    truth, scores = checked(targets, scores)
    if not truth.size:
        return float("nan")
    return float(np.mean(truth[np.arange(len(truth)), scores.argmax(axis=1)]))


def exact_match(targets: ArrayLike, scores: ArrayLike, threshold: ArrayLike = 0.5) -> float:
    """Share of rows whose whole set of labels is right at a threshold; nan without rows.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers, higher = more likely.
        threshold: One number or [n_classes]; a score at or above it predicts the class. Default: 0.5.

    Returns:
        The share, 0..1.
    """
    truth, scores = checked(targets, scores)
    if not truth.size:
        return float("nan")
    return float(np.mean(((scores >= np.asarray(threshold)) == truth).all(axis=1)))


def confusion(targets: ArrayLike, scores: ArrayLike) -> NDArray[np.int64]:
    """Confusion matrix of the rows with exactly one label; the others are left out.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers, higher = more likely.

    Returns:
        int64 [n_classes, n_classes], rows = true class, columns = class with the highest score.
    """
    truth, scores = checked(targets, scores)
    single = truth.sum(axis=1) == 1
    n_classes = truth.shape[1]
    if not n_classes or not single.any():
        return np.zeros((n_classes, n_classes), np.int64)
    cell = truth[single].argmax(axis=1) * n_classes + scores[single].argmax(axis=1)
    return np.bincount(cell, minlength=n_classes**2).reshape(n_classes, n_classes)


def classification_report(targets: ArrayLike, scores: ArrayLike, *, multi_label: bool) -> PrecisionRecallF1:
    """Precision, recall and F1 of the classes that probabilities predict.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], probabilities.
        multi_label: Predict every class at 0.5 or above, else the highest of each row with exactly one label.

    Returns:
        Arrays [n_classes].
    """
    if multi_label:
        true_positive, false_positive, false_negative, _ = detection_counts(targets, scores).T
        return precision_recall_f1(true_positive, false_positive, false_negative)
    return precision_recall_f1_from_confusion(confusion(targets, scores))


def log_loss(targets: ArrayLike, scores: ArrayLike, *, multi_label: bool) -> float:
    """Cross-entropy of probabilities. A probability of 0 counts as the smallest normal float32.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], probabilities; they are clipped to 0..1.
        multi_label: Mean of the binary cross-entropy over all rows and classes, else mean over the rows with exactly
            one label of minus the logarithm of its probability.

    Returns:
        The mean; nan without rows.
    """
    truth, scores = checked(targets, scores)
    p = np.clip(scores.astype(np.float64), 0, 1)
    least = float(np.finfo(np.float32).tiny)
    if multi_label:
        of_target = np.where(truth, p, 1 - p)
        return float(-np.log(np.maximum(of_target, least)).mean()) if of_target.size else float("nan")
    single = truth.sum(axis=1) == 1
    of_label = p[single][truth[single]]
    return float(-np.log(np.maximum(of_label, least)).mean()) if len(of_label) else float("nan")


def _at_each_positive(positives: PositiveRanks) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """With the threshold at each positive's score: predicted rows and true positives among them, [n_positives] each."""
    scores = positives.positives
    return positives.n_rows - positives.n_below, len(scores) - np.searchsorted(scores, scores, "left")
