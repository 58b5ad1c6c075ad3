"""Grouped folds of the training clips, on which settings and heads are compared. Held-out clips are never used."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.random_streams import Stream, integer_seed
from birdnet_fs.training.encoder_heads.data import HeadData
from birdnet_fs.training.encoder_heads.solution import Solution

N_FOLDS = 5
MAX_NUMBERS = 2e8  # numbers of windows x width x classes above which one fold is held out instead of all


def inner_folds(data: HeadData, seed: int) -> list[NDArray[np.int64]]:
    """The clips of each held-out fold, stratified by the rarest class of each clip.

    A group is never divided. The only group of a class stays in training, since no other could be fitted to instead.

    Args:
        data: The training data.
        seed: Seed of the draw.

    Returns:
        Numbers of the clips held out, one array per fold, N_FOLDS or fewer; [] where no group can be held out.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups, positive = np.unique(np.asarray(data.groups), return_inverse=True)[1], data.targets > 0
    groups_of = [np.unique(groups[column]) for column in positive.T]
    only = [own[0] for own in groups_of if len(own) == 1]
    free = np.flatnonzero(~np.isin(groups, only))
    counts = np.array([len(own) for own in groups_of])
    rarest = np.where(positive, counts, len(groups) + 1).argmin(1)
    label = np.where(positive.any(1), rarest, -1)[free]
    most = np.unique(label, return_counts=True)[1].max(initial=0)  # clips of a class; the splitter needs no fewer
    n = min(N_FOLDS, len(np.unique(groups[free])), int(most))
    if n < 2:
        return []
    splitter = StratifiedGroupKFold(n, shuffle=True, random_state=integer_seed(seed, Stream.HEAD_FOLDS))
    with warnings.catch_warnings():  # of classes with fewer groups than folds, which are held out in fewer folds
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        folds = [free[held] for _, held in splitter.split(free, label, groups[free])]
    work = data.features.shape[0] * data.features.shape[-1] * data.targets.shape[1]
    return [fold for fold in folds if len(fold)][: 1 if work > MAX_NUMBERS else n]


def out_of_fold(
    solve: Callable[[HeadData], Sequence[Solution]], data: HeadData, folds: Sequence[NDArray[np.int64]]
) -> tuple[HeadData, list[NDArray]]:
    """Logits of the clips of every fold, by heads that were fitted to the other clips.

    Args:
        solve: Fits one or several heads.
        data: The training data.
        folds: Clips that are held out.

    Returns:
        The clips that were held out, and the logits of each head for their windows [n_windows, n_classes].
    """
    held = np.sort(np.concatenate(folds))
    part = data.part(held)
    logits: list[NDArray] = []
    for fold in folds:
        solutions = solve(data.part(np.setdiff1d(np.arange(data.n_clips), fold)))
        rows = np.isin(held, fold)[part.clip]
        logits = logits or [np.zeros((len(part.clip), data.targets.shape[1])) for _ in solutions]
        for into, solution in zip(logits, solutions, strict=True):
            into[rows] = solution.score(data.part(fold))
    return part, logits
