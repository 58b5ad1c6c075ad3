"""Fit the maps of all classes to labeled windows, with calibrated scores of recordings that a map was not fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis.calibration.affine import Prior, fit_affine, fit_shared, log_loss
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.inference.calibration.maps import CalibrationMaps, check_method

N_FOLDS = 10
MIN_RECORDINGS = 5
MIN_POSITIVES = 10  # windows with a class, of all classes together
ISOTONIC_EACH = 50  # windows with a class, and without it, from which steps are fitted; else slope and offset
# of log slope and offset, compared on held-out recordings
WIDTH_PAIRS = ((0, 0), (0, 0.5), (0, 1), (0, 2), (0.25, 1), (0.5, 1), (0.5, 2), (1, 2), (1, 4))
PRIORS = tuple(Prior(*each) for each in WIDTH_PAIRS)
TEMPERATURE_PRIORS = tuple(Prior(each, 0) for each in (0, 0.1, 0.25, 0.5, 1))
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FittedMaps:
    """Maps, and how good they are.

    Attributes:
        maps: The maps, fitted to all recordings.
        held_out: float64 [n, n_classes], calibrated log-odds of each row by maps that were not fitted to its recording.
        method: Kind of the map of each class: one of METHODS, or "shared" for a class without positive rows, which has
            the map of all.
        prior: Widths of the priors that were chosen.
    """

    maps: CalibrationMaps
    held_out: Floats
    method: tuple[str, ...]
    prior: Prior


def fit_maps(
    log_odds: Floats, targets: NDArray, groups: Sequence[object], method: str = "platt", *, seed: int = 0
) -> FittedMaps:
    """Fit the maps.

    Args:
        log_odds: float64 [n, n_classes] of the model.
        targets: [n, n_classes], 0 or 1.
        groups: [n], recording of each row.
        method: "platt" (slope and offset), "temperature" (slope) or "isotonic" (steps, where a class has enough
            windows). Default: "platt".
        seed: Seed of the folds. Default: 0.

    Returns:
        The maps and the scores of held-out recordings.

    Raises:
        UserError: The method is unknown, or there are too few recordings or positive windows.
    """
    check_method(method)
    y, recording = np.asarray(targets, np.float64), np.unique([str(g) for g in groups], return_inverse=True)[1]
    _check_enough(y, int(recording.max(initial=-1)) + 1)
    folds = recording_folds(y, recording, N_FOLDS, seed)
    present = _present(y)
    priors = TEMPERATURE_PRIORS if method == "temperature" else PRIORS
    losses = np.zeros(len(priors))
    divisions = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(int(folds.max()) + 1)]
    for rest, held in divisions:
        center = _shared_map(log_odds[rest], y[rest], method)
        for i, prior in enumerate(priors):
            maps = _affine_maps(log_odds[rest], y[rest], center, prior, method)
            losses[i] += log_loss(maps(log_odds[held]), y[held])[present].sum()
    prior = priors[int(losses.argmin())]
    held_out = np.empty(log_odds.shape)
    for rest, held in divisions:
        held_out[held] = _maps(log_odds[rest], y[rest], prior, method)(log_odds[held])
    maps = _maps(log_odds, y, prior, method)
    how = tuple(
        "shared" if not present[c] else "platt" if method == "isotonic" and c not in maps.steps else method
        for c in range(y.shape[1])
    )
    return FittedMaps(maps, held_out, how, prior)


def recording_folds(targets: NDArray, recording: NDArray[np.intp], n_folds: int, seed: int) -> NDArray[np.intp]:
    """Divide recordings into folds, those with the rarest classes first, so that each fold has some of every class.

    Args:
        targets: [n, n_classes], 0 or 1.
        recording: [n], number of the recording of each row, from 0.
        n_folds: Largest number of folds.
        seed: Seed of the order of recordings with the same rarest class.

    Returns:
        [n], fold of each row; as many folds as there are recordings where these are fewer.
    """
    n_recordings = int(recording.max()) + 1
    has = np.zeros((n_recordings, targets.shape[1]), bool)
    np.logical_or.at(has, recording, targets > 0)
    counts = has.sum(axis=0)
    rarest = np.where(has, counts, n_recordings + 1).min(axis=1, initial=n_recordings + 1)
    which = np.where(has, counts, n_recordings + 1).argmin(axis=1)
    drawn = generator(seed, Stream.CALIBRATION_FOLDS).permutation(n_recordings)
    order = np.lexsort((drawn, which, rarest))
    fold = np.empty(n_recordings, np.intp)
    fold[order] = np.arange(n_recordings) % min(n_folds, n_recordings)
    return fold[recording]


def isotonic_steps(log_odds: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Isotonic regression of one class.

    Args:
        log_odds: float64 [n].
        targets: float64 [n], 0 or 1.

    Returns:
        Mean log-odds of each block of equal calibrated probability and its calibrated log-odds, of (number of positives
        + 1/2) / (number of rows + 1), so that no block is certain; both ascending.
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(log_odds, kind="stable")
    x, y = log_odds[order], targets[order]
    values, first, n_equal = np.unique(x, return_index=True, return_counts=True)
    means = np.add.reduceat(y, first) / n_equal
    starts = isotonic_regression(means, weights=n_equal.astype(np.float64)).blocks[:-1]
    n = np.add.reduceat(n_equal, starts)
    positives = np.add.reduceat(means * n_equal, starts)
    at = np.add.reduceat(values * n_equal, starts) / n
    share = (positives + 0.5) / (n + 1)
    return at, np.maximum.accumulate(np.log(share / (1 - share)))


def _check_enough(targets: Floats, n_recordings: int) -> None:
    n_positives = int(targets.sum())
    if n_recordings < MIN_RECORDINGS or n_positives < MIN_POSITIVES:
        raise UserError(
            f"A calibration needs {MIN_RECORDINGS} labeled recordings or more (or groups, data.group_column) and "
            f"{MIN_POSITIVES} windows or more with a class of the model. Received: {n_recordings} recordings with "
            f"{n_positives} such windows; label more."
        )
    if targets.all():
        raise UserError("A calibration needs windows without some of the classes; every labeled window has all.")


def _present(y: Floats) -> NDArray[np.bool_]:
    """Classes with and without positive rows, [n, n_classes] -> [n_classes]."""
    n_positives = y.sum(axis=0)
    return np.asarray((n_positives > 0) & (n_positives < len(y)))


def _shared_map(log_odds: Floats, y: Floats, method: str) -> tuple[float, float]:
    """Log slope and offset of the map that all classes share; (0, 0) changes nothing, where no class is present."""
    present = _present(y)
    if not present.any():
        return 0.0, 0.0
    return fit_shared(log_odds[:, present], y[:, present], with_offset=method != "temperature")


def _affine_maps(
    log_odds: Floats, y: Floats, center: tuple[float, float], prior: Prior, method: str
) -> CalibrationMaps:
    present = _present(y)
    slope, offset = np.full(y.shape[1], np.exp(center[0])), np.full(y.shape[1], center[1])
    slope[present], offset[present] = fit_affine(
        log_odds[:, present], y[:, present], center=center, prior=prior, with_offset=method != "temperature"
    )
    return CalibrationMaps(slope, offset)


def _maps(log_odds: Floats, y: Floats, prior: Prior, method: str) -> CalibrationMaps:
    maps = _affine_maps(log_odds, y, _shared_map(log_odds, y, method), prior, method)
    if method != "isotonic":
        return maps
    n_positives = y.sum(axis=0)
    enough = np.minimum(n_positives, len(y) - n_positives) >= ISOTONIC_EACH
    steps = {int(c): isotonic_steps(log_odds[:, c], y[:, c]) for c in np.flatnonzero(enough)}
    return CalibrationMaps(maps.slope, maps.offset, steps)
