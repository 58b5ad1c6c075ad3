"""Fit a head that finds calls: one division with early stopping, or cross-validation with early stopping.

Early stopping is that of LightGBM: the first step with the highest AUC so far is the best one once it was not exceeded
for a number of steps. In cross-validation the AUC of a step is the mean over the folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.metrics.classification import average_precision
from birdnet_fs.motifs.no_call.heads import Head, HeadPath, fit_path
from birdnet_fs.motifs.no_call.splits import fold_groups, groups_of, split_groups

SINGLE, SINGLE_PATIENCE = (0.85, 0.075, 0.075), 10  # training, validation, test
FOLDED, FOLDED_PATIENCE, N_FOLDS = (0.9, 0.1), 5, 5  # folds and test
KEPT_CALLS = 0.95  # share of the held-out windows with calls that pass the threshold


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A head and its scores.

    Attributes:
        head: The head.
        best_step: Number of steps along its path, from 1.
        stopped_early: Whether the path was left before its end.
        auc: AUC of the best step, on validation windows or as the mean over folds.
        auc_std: Standard deviation over the folds; nan for a single division.
        fold_aucs: AUC of each fold at the best step; () for a single division.
        fold_aps: Average precision of windows without calls, of each fold; () for a single division.
        test_auc: AUC on the test windows.
        test_ap: Average precision of test windows without calls.
        threshold: Highest probability that KEPT_CALLS of the held-out windows with calls reach.
        sizes: Rows of each part of the division.
    """

    head: Head
    best_step: int
    stopped_early: bool
    auc: float
    auc_std: float
    fold_aucs: tuple[float, ...]
    fold_aps: tuple[float, ...]
    test_auc: float
    test_ap: float
    threshold: float
    sizes: tuple[int, ...] = field(default=())

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines to print, in the words of LightGBM."""
        stop = "Early stopping, best" if self.stopped_early else "Did not meet early stopping. Best"
        several = f"cv_agg's auc: {self.auc:g} + {self.auc_std:g}"
        shown = several if self.fold_aucs else f"valid_0's auc: {self.auc:g}"
        step = f"[{self.best_step}]    {shown}"
        return (
            f"{stop} iteration is:",
            step,
            f"best number of iterations: {self.best_step}",
            f"test score: {self.test_auc}",
        )


def fit_single(
    x: np.ndarray, y: np.ndarray, recordings: Sequence[str], *, head: str = "gbm", by: str = "recordings", seed: int = 0
) -> FittedHead:
    """Fit on 85 %, stop on 7.5 % and test on 7.5 % of the windows.

    Args:
        x: float32 [n, width], vectors.
        y: bool [n], whether there is a call.
        recordings: [n], recording or group of each window.
        head: "gbm", "logistic" or "mlp". Default: "gbm".
        by: "recordings", or "rows" to divide recordings too. Default: "recordings".
        seed: Seed of the division and of the network. Default: 0.

    Returns:
        The head and its scores; UserErrors of `split_groups` and `fit_path` are passed on.
    """
    train, valid, test = split_groups(y, groups_of(recordings, by), SINGLE, seed)
    path = fit_path(head, x[train], y[train], seed=seed)
    probabilities = path.probabilities(x[valid])
    aucs = np.array([auc(y[valid], row) for row in probabilities])
    step, stopped = early_stop(aucs, len(aucs) if head == "logistic" else SINGLE_PATIENCE)
    return _tested(
        path.head(step),
        (step, stopped, float(aucs[step - 1]), float("nan"), (), ()),
        (x[test], y[test]),
        threshold_of(y[valid], probabilities[step - 1]),
        (len(train), len(valid), len(test)),
    )


def fit_folds(
    x: np.ndarray, y: np.ndarray, recordings: Sequence[str], *, head: str = "gbm", by: str = "recordings", seed: int = 0
) -> FittedHead:
    """Choose the number of steps by 5 folds of 90 % of the windows, fit on all of these, and test on 10 %.

    Args:
        x: float32 [n, width], vectors.
        y: bool [n], whether there is a call.
        recordings: [n], recording or group of each window.
        head: "gbm", "logistic" or "mlp". Default: "gbm".
        by: "recordings", or "rows" to divide recordings too. Default: "recordings".
        seed: Seed of the division and of the network. Default: 0.

    Returns:
        The head and its scores; UserErrors of `split_groups`, `fold_groups` and `fit_path` are passed on.
    """
    groups = groups_of(recordings, by)
    rest, test = split_groups(y, groups, FOLDED, seed)
    inner_x, inner_y = x[rest], y[rest]
    folds = fold_groups(inner_y, groups[rest], N_FOLDS, seed)
    probabilities = _held_out(head, inner_x, inner_y, folds, seed)
    by_fold = np.array([[auc(inner_y[held], row[held]) for row in probabilities] for held in folds])
    means = by_fold.mean(0)
    step, stopped = early_stop(means, len(means) if head == "logistic" else FOLDED_PATIENCE)
    found = probabilities[step - 1]
    aucs = by_fold[:, step - 1]
    aps = tuple(no_call_ap(inner_y[held], found[held]) for held in folds)
    return _tested(
        fit_path(head, inner_x, inner_y, seed=seed).head(step),
        (step, stopped, float(aucs.mean()), float(aucs.std()), tuple(map(float, aucs)), aps),
        (x[test], y[test]),
        threshold_of(inner_y, found),
        (*(len(held) for held in folds), len(test)),
    )


def _held_out(
    head: str, x: np.ndarray, y: np.ndarray, folds: Sequence[NDArray[np.int64]], seed: int
) -> NDArray[np.float64]:
    """Probabilities of all rows after each step [n_steps, n], each by the head that its fold was held out from."""
    paths: list[tuple[NDArray[np.int64], HeadPath]] = []
    for held in folds:
        others = np.setdiff1d(np.arange(len(y)), held)
        paths.append((held, fit_path(head, x[others], y[others], seed=seed)))
    parts = [(held, path.probabilities(x[held])) for held, path in paths]
    found = np.empty((len(parts[0][1]), len(y)))
    for held, probabilities in parts:
        found[:, held] = probabilities
    return found


def _tested(
    head: Head,
    choice: tuple[int, bool, float, float, tuple[float, ...], tuple[float, ...]],
    test: tuple[np.ndarray, np.ndarray],
    threshold: float,
    sizes: tuple[int, ...],
) -> FittedHead:
    x, y = test
    probabilities = head.probabilities(x)
    return FittedHead(head, *choice, auc(y, probabilities), no_call_ap(y, probabilities), threshold, sizes)


def early_stop(scores: np.ndarray, patience: int) -> tuple[int, bool]:
    """The step at which LightGBM's early stopping ends.

    Args:
        scores: float [n_steps], larger is better.
        patience: Steps without a higher score after which the search ends, 1 or more.

    Returns:
        (step, stopped): the best step, from 1, and whether the search ended before the last step.

    >>> early_stop(np.array([0.5, 0.7, 0.6, 0.7, 0.9]), 2), early_stop(np.array([0.5, 0.7, 0.6, 0.9]), 3)
    ((2, True), (4, False))
    """
    best = 0
    for step in range(1, len(scores)):
        if scores[step] > scores[best]:
            best = step
        elif step - best >= patience:
            return best + 1, True
    return best + 1, False


def auc(y: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve of calls; y bool [n], probabilities float [n]."""
    return macro_auroc(y[:, None], probabilities[:, None]).value


def no_call_ap(y: np.ndarray, probabilities: np.ndarray) -> float:
    """Average precision of windows without calls, ranked by how improbable a call is; y bool [n], float [n]."""
    return float(average_precision((~y).astype(np.float32)[:, None], -probabilities[:, None])[0])


def threshold_of(y: np.ndarray, probabilities: np.ndarray) -> float:
    """Highest threshold that KEPT_CALLS of the windows with calls reach.

    Args:
        y: bool [n], whether there is a call.
        probabilities: float [n].

    Returns:
        One of the probabilities.
    """
    calls = np.sort(probabilities[y])
    return float(calls[int((1 - KEPT_CALLS) * len(calls))])
