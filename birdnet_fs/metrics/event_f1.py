"""Timed detections against timed annotations: the event-based F-measure of the DCASE few-shot task.

Source: DCASE challenge, few-shot bioacoustic event detection, 2021-2024,
https://dcase.community/challenge2024/task-few-shot-bioacoustic-event-detection; the rules are those of the
organizers' code, https://github.com/c4dm/dcase-few-shot-bioacoustic (evaluation_metrics/).
A detection can match an annotated event when the intersection of their times is more than 30 % of the union; as many
pairs as possible are matched, each event and detection at most once. An unmatched detection that matches an event that
the annotators were unsure of (UNK) is not counted. The first five events of a recording are the support and are not
counted. Unlike in that code, a recording without any detection has false negatives for the events after its support
only, not for the support.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from birdnet_fs.core.errors import UserError

MIN_IOU = 0.3  # intersection over union has to be more than this, as in DCASE
N_SHOTS = 5  # events of a recording that are its support
LOWEST = 1e-5  # in place of a score of 0, so that a harmonic mean exists

Times = NDArray[np.float64]  # [n, 2]: onset and offset, seconds


@dataclass(frozen=True)
class EventCounts:
    """Matched detections, unmatched detections and unmatched events."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0

    def __add__(self, other: "EventCounts") -> "EventCounts":
        return EventCounts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )


@dataclass(frozen=True)
class EventScores:
    """Precision, recall and F-measure, in 0..1; LOWEST in place of 0."""

    precision: float
    recall: float
    f_measure: float


def count_events(
    events: ArrayLike,
    detections: ArrayLike,
    unsure: ArrayLike = (),
    *,
    n_shots: int = N_SHOTS,
    min_iou: float = MIN_IOU,
) -> EventCounts:
    """Compare the detections of one class in one recording with its annotations.

    Args:
        events: [n, 2], onset and offset in seconds of every event of the class (POS), the support included, in any
            order.
        detections: [m, 2], likewise, of the detections after the support; an earlier one is a false positive.
        unsure: [k, 2], likewise, of events that may or may not be of the class (UNK). Default: none.
        n_shots: Number of first events (by onset) that are the support; events that end no later than the last of them
            are left out. Default: 5; 0 = no support.
        min_iou: Intersection over union of a match has to be more than this, 0..1. Default: 0.3.

    Returns:
        True positives, false positives and false negatives.

    Raises:
        UserError: Times are not pairs of a finite onset and a later offset, or there are fewer events than `n_shots`.

    >>> count_events([[0, 1], [5, 6], [8, 9]], [[5.1, 6.1], [20, 21]], n_shots=1)
    EventCounts(true_positive=1, false_positive=1, false_negative=1)
    """
    positive, detected = _checked(events, "events"), _checked(detections, "detections")
    unknown = _checked(unsure, "unsure")
    if n_shots:
        if len(positive) < n_shots:
            raise UserError(
                f"The support is the first {n_shots} events of a recording (n_shots). Received: {len(positive)} events"
            )
        support_end = positive[np.argsort(positive[:, 0], kind="stable")[n_shots - 1], 1]
        positive, unknown = (times[times[:, 1] > support_end] for times in (positive, unknown))
    pairs = match_events(positive, detected, min_iou=min_iou)
    unmatched = np.delete(detected, pairs[:, 1], axis=0)
    n_excused = len(match_events(unknown, unmatched, min_iou=min_iou))
    return EventCounts(len(pairs), len(unmatched) - n_excused, len(positive) - len(pairs))


def match_events(events: ArrayLike, detections: ArrayLike, *, min_iou: float = MIN_IOU) -> NDArray[np.int64]:
    """Match as many events with detections as possible, each at most once; UserErrors are those of `count_events`.

    Args:
        events: [n, 2], onset and offset in seconds.
        detections: [m, 2], likewise.
        min_iou: Intersection over union of a match has to be more than this, 0..1. Default: 0.3.

    Returns:
        int64 [n_pairs, 2]: row of the event and row of the detection, by event. Where several matchings have as many
        pairs, one of them.
    """
    true, detected = _checked(events, "events"), _checked(detections, "detections")
    if not len(true) or not len(detected):
        return np.empty((0, 2), np.int64)
    order = np.argsort(detected[:, 0], kind="stable")
    onsets, offsets = detected[order].T
    # of the detections by onset, an event can overlap those from the first not yet over, to the last begun
    first = np.searchsorted(np.maximum.accumulate(offsets), true[:, 0], "right")
    n_overlaps = np.maximum(np.searchsorted(onsets, true[:, 1], "left") - first, 0)
    i = np.repeat(np.arange(len(true)), n_overlaps)
    j = np.arange(len(i)) - np.repeat(np.cumsum(n_overlaps) - n_overlaps, n_overlaps) + first[i]
    intersection = np.minimum(true[i, 1], offsets[j]) - np.maximum(true[i, 0], onsets[j])
    union = np.maximum(true[i, 1], offsets[j]) - np.minimum(true[i, 0], onsets[j])
    is_match = intersection / union > min_iou
    cells = (i[is_match], order[j[is_match]])
    graph = csr_array((np.ones(is_match.sum(), np.int8), cells), shape=(len(true), len(detected)))
    found = maximum_bipartite_matching(graph, perm_type="column")
    rows = np.flatnonzero(found >= 0)
    return np.stack([rows, found[rows].astype(np.int64)], axis=1)


def event_scores(counts: EventCounts) -> EventScores:
    """Precision, recall and F-measure of the summed counts of a recording, a class or a data set.

    >>> event_scores(EventCounts(true_positive=3, false_positive=1, false_negative=3))
    EventScores(precision=0.75, recall=0.5, f_measure=0.6)
    """
    tp, fp, fn = counts.true_positive, counts.false_positive, counts.false_negative
    if not tp:
        return EventScores(LOWEST, LOWEST, LOWEST)
    return EventScores(tp / (tp + fp), tp / (tp + fn), tp / (tp + (fp + fn) / 2))


def mean_over_sets(sets: Iterable[EventCounts]) -> EventScores:
    """DCASE's overall scores: harmonic means over the data sets, in which the lowest counts most.

    Args:
        sets: The counts of each data set, one or more.

    Returns:
        Harmonic means of the precisions, recalls and F-measures.

    Raises:
        UserError: There is no data set.
    """
    each = [event_scores(counts) for counts in sets]
    if not each:
        raise UserError("Scores over data sets need the counts of one data set or more. Received: none")
    columns = zip(*((s.precision, s.recall, s.f_measure) for s in each), strict=True)
    return EventScores(*(len(each) / sum(1 / value for value in column) for column in columns))


def _checked(times: ArrayLike, name: str) -> Times:
    pairs = np.asarray(times, np.float64)
    if not pairs.size:
        return np.empty((0, 2))
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise UserError(f"{name} must be [n, 2], onset and offset in seconds. Received: {pairs.shape}")
    wrong = np.flatnonzero(~(np.isfinite(pairs).all(axis=1) & (pairs[:, 1] > pairs[:, 0])))
    if len(wrong):
        raise UserError(
            f"{name} must each have a finite onset and a later offset. Received: {pairs[wrong[0]].tolist()} "
            f"in row {wrong[0]}"
        )
    return pairs
