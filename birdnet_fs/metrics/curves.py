"""Points of ROC and precision-recall curves of one class, ties as one point.

Davis & Goadrich 2006, https://doi.org/10.1145/1143844.1143874, on the relation of the two.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def roc_points(targets: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at every threshold.

    Args:
        targets: [n], 0 or 1, with at least one of each.
        scores: [n], finite.

    Returns:
        The two rates, float64 [n_points], from (0, 0) to (1, 1).
    """
    n_true, n_called = _counts(targets, scores)
    n_false = n_called - n_true
    return np.append(0.0, n_false / n_false[-1]), np.append(0.0, n_true / n_true[-1])


def precision_recall_points(targets: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision at every threshold.

    Args:
        targets: [n], 0 or 1, with at least one 1.
        scores: [n], finite.

    Returns:
        Recall and precision, float64 [n_points], by increasing recall from (0, 1).
    """
    n_true, n_called = _counts(targets, scores)
    return np.append(0.0, n_true / n_true[-1]), np.append(1.0, n_true / n_called)


def _counts(targets: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positives, and all rows, at or above each distinct score, from the highest score down."""
    truth, values = np.asarray(targets) > 0, np.asarray(scores)
    order = np.argsort(-values, kind="stable")
    last = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    return np.cumsum(truth[order], dtype=np.int64)[last], last + 1
