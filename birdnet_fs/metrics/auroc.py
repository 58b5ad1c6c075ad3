"""Exact class-wise AUROC, and the ranks of the positives on which AUROC, average precision and F1 rest.

AUROC is the Mann-Whitney statistic with ties counted one half (Hanley & McNeil 1982,
https://doi.org/10.1148/radiology.143.1.7063747). Only the positives need a rank, so each class is sorted once and its
positives are looked up in it. A class without a positive or without a negative has no AUROC: it is nan, left out of
the mean, and named.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birdnet_fs.core.errors import UserError

# One np.copyto of all rows misses the cache at every score; these tiles of a transposition fit into the L2 cache.
_N_CLASSES_AT_A_TIME = 64
_N_ROWS_AT_A_TIME = 1024


@dataclass(frozen=True)
class AUROC:
    """Macro class-wise AUROC and what it was averaged over.

    Attributes:
        value: Mean over the scored classes; nan when there is none.
        per_class: float64 [n_classes]; nan where undefined.
        n_scored_classes: Number of classes in the mean.
        skipped: Numbers of the classes without positives or without negatives, which are not in the mean.
    """

    value: float
    per_class: NDArray[np.float64]
    n_scored_classes: int
    skipped: tuple[int, ...]


@dataclass(frozen=True)
class PositiveRanks:
    """The positives of one class among all rows of that class.

    Attributes:
        n_rows: Number of rows, positive or not.
        positives: Scores of the positives, [n_positives], ascending.
        n_below: Rows with a score less than that of each positive, int64 [n_positives].
        n_up_to: Rows with a score less than or equal to it, int64 [n_positives].
    """

    n_rows: int
    positives: NDArray
    n_below: NDArray[np.int64]
    n_up_to: NDArray[np.int64]


def macro_auroc(targets: ArrayLike, scores: ArrayLike) -> AUROC:
    """Exact mean of the classes' areas under the ROC curve, ties averaged; UserErrors are those of `checked`.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], any real numbers, higher = more likely (probabilities or logits). They are compared in
            the precision in which they are given.

    Returns:
        The mean, the value of each class, and the classes that had to be skipped.

    >>> macro_auroc([[0, 0], [1, 0], [1, 0]], [[0.1, 0.5], [0.1, 0.2], [0.9, 0.3]])
    AUROC(value=0.75, per_class=array([0.75,  nan]), n_scored_classes=1, skipped=(1,))
    """
    per_class = []
    for ranks in positive_ranks(targets, scores):
        n, n_positives = ranks.n_rows, len(ranks.positives)
        if n_positives in (0, n):
            per_class.append(np.nan)
            continue
        # twice the positives' mid-ranks, less the least possible sum: integers, so only the division rounds
        twice = int(ranks.n_below.sum()) + int(ranks.n_up_to.sum()) - n_positives**2
        per_class.append(twice / (2 * n_positives * (n - n_positives)))
    values = np.array(per_class)
    skipped = tuple(int(c) for c in np.flatnonzero(np.isnan(values)))
    return AUROC(mean_of_defined(values), values, len(values) - len(skipped), skipped)


def undefined_because(targets: ArrayLike, classes: Sequence[str]) -> str:
    """Say why the macro AUROC of these targets is undefined.

    Args:
        targets: [n, n_classes], 0 or 1.
        classes: Names in column order.

    Returns:
        The reason, without a full stop; "" where at least one class has a positive and a negative.

    >>> undefined_because([[1, 0], [1, 0]], ["wren", "owl"])
    "all 2 clips have the label 'wren' only, and AUROC needs clips with a class and clips without it"
    """
    truth = np.asarray(targets) > 0
    n = len(truth)
    n_positives = truth.sum(axis=0) if n else np.zeros(len(classes), int)
    if ((n_positives > 0) & (n_positives < n)).any():
        return ""
    everywhere = [name for name, count in zip(classes, n_positives, strict=True) if n and count == n]
    found = "there is no clip"
    if everywhere:
        labels = f"label {everywhere[0]!r}" if len(everywhere) == 1 else f"same {len(everywhere)} labels"
        found = f"{f'all {n} clips have' if n > 1 else 'the only clip has'} the {labels} only"
    elif n:
        found = f"{f'none of the {n} clips has' if n > 1 else 'the only clip does not have'} a label"
    return f"{found}, and AUROC needs clips with a class and clips without it"


def positive_ranks(targets: ArrayLike, scores: ArrayLike) -> Iterator[PositiveRanks]:
    """Rank the positives of every class; UserErrors are those of `checked`.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers; infinite ones are the highest or lowest.

    Yields:
        The ranks of one class after another.
    """
    truth, scores = checked(targets, scores)
    for column, is_positive in zip(_contiguous_columns(scores), _contiguous_columns(truth), strict=True):
        positives = np.sort(column[np.flatnonzero(is_positive)])
        column.sort()
        n_below, n_up_to = (column.searchsorted(positives, side) for side in ("left", "right"))
        yield PositiveRanks(len(column), positives, n_below, n_up_to)


def checked(targets: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray]:
    """Validate targets and scores.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers other than NaN.

    Returns:
        The targets as booleans and the scores in the type in which they were given (bfloat16, which NumPy cannot sort,
        as float32), both [n, n_classes].

    Raises:
        UserError: Shapes differ, a score is not a real number or is NaN, or a target is neither 0 nor 1.
    """
    targets, scores = np.asarray(targets), np.asarray(scores)
    if targets.ndim != 2 or targets.shape != scores.shape:
        raise UserError(
            f"targets and scores must both be [n, n_classes] of one shape. Received: {targets.shape} and {scores.shape}"
        )
    if scores.dtype.kind not in "biuf":
        if not np.can_cast(scores.dtype, np.float32):
            raise UserError(f"scores must be real numbers. Received: an array of {scores.dtype}")
        scores = scores.astype(np.float32)
    truth = targets == 1
    if np.count_nonzero(truth) != np.count_nonzero(targets != 0):
        c = np.flatnonzero(((targets != 0) & ~truth).any(axis=0))[0]
        raise UserError(
            f"targets must be 0 or 1; class {c} holds another value: pass hard labels (no label smoothing, no mixup)."
        )
    if np.isnan(scores.min(initial=0)):  # the minimum of an array with NaN is NaN
        c = np.flatnonzero(np.isnan(scores).any(axis=0))[0]
        raise UserError(f"scores must be numbers; class {c} holds NaN: look for a diverged training.")
    return truth, scores


def mean_of_defined(values: NDArray[np.float64]) -> float:
    """Mean of the values that are not nan, [n] -> one number; nan when there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _contiguous_columns(table: NDArray) -> Iterator[NDArray]:
    """The columns of [n, n_classes], each a contiguous copy [n] that is overwritten some columns later."""
    n, n_classes = table.shape
    buffer = np.empty((_N_CLASSES_AT_A_TIME, n), table.dtype)  # one: fresh pages would cost more than the copy
    for c in range(0, n_classes, _N_CLASSES_AT_A_TIME):
        block = table[:, c : c + _N_CLASSES_AT_A_TIME]
        columns = buffer[: block.shape[1]]
        for row in range(0, n, _N_ROWS_AT_A_TIME):
            rows = slice(row, row + _N_ROWS_AT_A_TIME)
            columns[:, rows] = block[rows].T
        yield from columns
