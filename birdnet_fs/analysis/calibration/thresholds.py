"""Thresholds for a wanted precision, of each class, with intervals that count recordings.

The precision above a threshold is shown when the lower end of the exact one-sided interval (confidence 80 %) is at
least the wanted one, with the number of detections reduced by their correlation within recordings (intervals.py).
Wilson's interval would call a precision of 0.8 shown by three right detections of three, which is often chance where
few recordings are labeled or the network is weak. The threshold of a class is found from the one with the highest
lower end: it is lowered as long as the precision is shown. A class for which no threshold shows it has none, and the
reason is stored.

The 95 % interval of the precision at a chosen threshold is that of the same detections. Choosing the threshold on them
makes the estimate a little too high, the interval covers nevertheless: in 93 to 97 % of simulated deployments
(tests/analysis/calibration/test_thresholds.py, marked slow; docs/decisions.md).

Sources: Wood & Kahl 2024, "Guidelines for appropriate use of BirdNET scores and other detector outputs",
https://doi.org/10.1007/s10336-024-02144-5 (thresholds of a class for a wanted share of right detections); Navine et al.
2024, "All thresholds barred", https://doi.org/10.3389/fbirs.2024.1380636 (a threshold depends on the site: it holds for
recordings like the labeled ones).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from birdnet_fs.analysis.calibration.intervals import correlations_within, effective_numbers, share_right
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.calibration.stored import ClassThreshold

CONFIDENCE = 0.8
MIN_RECORDINGS = 3  # with detections
N_CANDIDATES = 200  # thresholds of a class
LIKELY = 0.5  # lowest calibrated probability of the detections that give the correlation within recordings


def choose_thresholds(
    scores: NDArray,
    targets: NDArray,
    groups: Sequence[object],
    precisions: Sequence[float],
    *,
    confidence: float = CONFIDENCE,
) -> dict[float, tuple[ClassThreshold, ...]]:
    """Choose the thresholds of all classes.

    Args:
        scores: [n, n_classes] in 0..1, calibrated and post-processed as they will be.
        targets: [n, n_classes], 0 or 1.
        groups: [n], recording of each row.
        precisions: Wanted shares of right detections, each above 0 and below 1.
        confidence: Confidence, 0.5 to below 1, with which the precision on the labeled recordings is at least the
            wanted one. Default: CONFIDENCE.

    Returns:
        Precision -> the threshold of each class.

    Raises:
        UserError: A precision or the confidence is out of range.
    """
    check_precisions(precisions, confidence)
    found, truth = np.asarray(scores, np.float32), np.asarray(targets) > 0
    recording = np.unique([str(g) for g in groups], return_inverse=True)[1]
    likely = [np.flatnonzero(column >= LIKELY) for column in found.T]
    correlations = correlations_within([(truth[rows, c], recording[rows]) for c, rows in enumerate(likely)])
    thresholds: dict[float, list[ClassThreshold]] = {p: [] for p in precisions}
    for c, correlation in enumerate(correlations.tolist()):
        candidates, lower = _lower_bounds(found[:, c], truth[:, c], recording, correlation, confidence)
        for precision in precisions:
            lowest = _lowest(candidates, lower, precision)
            if lowest is None:
                reason = _reason(truth[:, c], recording, lower, confidence)
                thresholds[precision].append(ClassThreshold(None, reason=reason))
                continue
            rows = np.flatnonzero(found[:, c] >= np.float32(lowest))
            share = share_right(truth[rows, c], recording[rows], correlation)
            recall = float(truth[rows, c].sum() / truth[:, c].sum())
            numbers = (*share, recall, len(rows), len(np.unique(recording[rows])))
            thresholds[precision].append(ClassThreshold(lowest, *numbers))
    return {precision: tuple(each) for precision, each in thresholds.items()}


def check_precisions(precisions: Sequence[float], confidence: float = CONFIDENCE) -> None:
    """Refuse precisions and a confidence out of range.

    Args:
        precisions: Wanted shares of right detections.
        confidence: Confidence of the thresholds, 0.5 to below 1. Default: CONFIDENCE.

    Raises:
        UserError: A precision is not above 0 and below 1, or the confidence not in 0.5 to below 1.
    """
    for precision in precisions:
        if not 0 < precision < 1:
            raise UserError(f"A precision must be above 0 and below 1, as 0.9. Received: {precision:g}")
    if not 0.5 <= confidence < 1:
        raise UserError(f"The confidence must be 0.5 or more and below 1. Received: {confidence:g}")


def _lower_bounds(
    scores: NDArray, truth: NDArray, recording: NDArray, correlation: float, confidence: float
) -> tuple[NDArray, NDArray]:
    """Thresholds, the scores of positive rows in ascending order, and the lower end of the precision at each."""
    candidates = np.unique(scores[truth])
    if len(candidates) > N_CANDIDATES:
        candidates = candidates[np.unique(np.linspace(0, len(candidates) - 1, N_CANDIDATES).round().astype(int))]
    if not len(candidates):
        return candidates, np.zeros(0)
    order = np.argsort(-scores, kind="stable")
    scores, truth, recording = scores[order], truth[order], recording[order]
    n = np.searchsorted(-scores, -candidates, side="right")  # rows at or above each threshold
    effective = effective_numbers(recording, correlation)[n - 1]
    right = np.cumsum(truth)[n - 1] / n * effective
    # Clopper & Pearson 1934, https://doi.org/10.1093/biomet/26.4.404; there is a right detection at each candidate
    lower = beta.ppf(1 - confidence, right, effective - right + 1)
    is_first = np.zeros(len(scores), bool)
    is_first[np.unique(recording, return_index=True)[1]] = True
    return candidates, np.where(np.cumsum(is_first)[n - 1] >= MIN_RECORDINGS, lower, 0.0)


def _lowest(candidates: NDArray, lower: NDArray, precision: float) -> float | None:
    """The threshold that is reached from the best one, as long as the precision is shown; None where none shows it."""
    if not (lower >= precision).any():
        return None
    best = len(lower) - 1 - int(lower[::-1].argmax())  # the highest of equal ones
    gaps = np.flatnonzero(lower[:best] < precision)
    return float(candidates[gaps[-1] + 1 if len(gaps) else 0])


def _reason(truth: NDArray, recording: NDArray, lower: NDArray, confidence: float) -> str:
    n = int(truth.sum())
    if not n:
        return "no labeled window has it"
    return (
        f"at most {lower.max():.2f} can be shown with {confidence:.0%} confidence from {n} windows with it in "
        f"{len(np.unique(recording[truth]))} recordings"
    )
