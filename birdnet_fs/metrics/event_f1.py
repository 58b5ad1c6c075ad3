"""Timed detections against timed annotations: the event-based F-measure of the DCASE few-shot task.

Source: DCASE challenge, few-shot bioacoustic event detection, 2021-2024,
https://dcase.community/challenge2024/task-few-shot-bioacoustic-event-detection; the rules are those of the
organizers' code, https://github.com/c4dm/dcase-few-shot-bioacoustic (evaluation_metrics/).
A detection and an annotated event may be one when the intersection of their times is more than 30 % of the union, and
as many as possible are paired, each once. A detection that is left over but pairs with an event that annotators were
unsure of (UNK) counts neither for nor against. The first five events of a recording are the support and count nowhere.
Unlike theirs, a recording without any detection misses the events after its support only, not those of the support.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from birdnet_fs.core.errors import UserError

MIN_IOU = 0.3  # of the times of an event and its detection; exactly this much is too little, as in DCASE
N_SHOTS = 5
LOWEST = 1e-5  # in place of a score of 0, so that a harmonic mean exists

Times = NDArray[np.float64]  # [n, 2]: onset and offset, seconds


@dataclass(frozen=True)
class EventCounts:
    """Detections that are events, detections that are none, events that were missed."""

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
    """Precision, recall and F-measure, in 0..1; LOWEST stands for 0."""

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
        events: [n, 2], onset and offset in seconds of every event of the class (POS), the support too, in any order.
        detections: [m, 2], of the detections behind the support; one that lies before counts as false.
        unsure: [k, 2], of what may be the class or may not (UNK).
        n_shots: First events (by onset) that are the support; whatever ends no later than the last of them is left
            out. 0 = none.
        min_iou: Intersection over union has to be more than this, in 0..1.

    Raises:
        UserError: Times that are not pairs of a finite onset and a later offset, or fewer events than `n_shots`.

    >>> count_events([[0, 1], [5, 6], [8, 9]], [[5.1, 6.1], [20, 21]], n_shots=1)
    Counts(hits=1, false=1, missed=1)
    """
    positive, called, pardoned = (
        _checked(events, "events"),
        _checked(detections, "detections"),
        _checked(unsure, "unsure"),
    )
    if n_shots:
        if len(positive) < n_shots:
            raise UserError(
                f"The support is the first {n_shots} events of a recording (n_shots). Received: {len(positive)} events"
            )
        support_end = positive[np.argsort(positive[:, 0], kind="stable")[n_shots - 1], 1]
        positive, pardoned = positive[positive[:, 1] > support_end], pardoned[pardoned[:, 1] > support_end]
    hits = match_events(positive, called, min_iou=min_iou)
    rest = np.delete(called, hits[:, 1], axis=0)
    return EventCounts(
        len(hits), len(rest) - len(match_events(pardoned, rest, min_iou=min_iou)), len(positive) - len(hits)
    )


def match_events(events: ArrayLike, detections: ArrayLike, *, min_iou: float = MIN_IOU) -> NDArray[np.int64]:
    """As many pairs of an event and a detection as can be, none of either twice.

    Args:
        events: [n, 2], onset and offset in seconds.
        detections: [m, 2], likewise.
        min_iou: As `count_events`.

    Returns:
        [n_pairs, 2]: row of the event and row of the detection, by event. Where there are several ways of making as
        many pairs, one of them.

    Raises:
        UserError: As `count_events`.
    """
    true, called = _checked(events, "events"), _checked(detections, "detections")
    if not len(true) or not len(called):
        return np.empty((0, 2), np.int64)
    order = np.argsort(called[:, 0], kind="stable")
    onsets, offsets = called[order].T
    # of the detections by onset, an event can meet those from the first that could still last, to the last begun
    first = np.searchsorted(np.maximum.accumulate(offsets), true[:, 0], "right")
    n_met = np.maximum(np.searchsorted(onsets, true[:, 1], "left") - first, 0)
    i = np.repeat(np.arange(len(true)), n_met)
    j = np.arange(len(i)) - np.repeat(np.cumsum(n_met) - n_met, n_met) + first[i]
    both = np.minimum(true[i, 1], offsets[j]) - np.maximum(true[i, 0], onsets[j])
    either = np.maximum(true[i, 1], offsets[j]) - np.minimum(true[i, 0], onsets[j])
    near = both / either > min_iou
    graph = csr_array((np.ones(near.sum(), np.int8), (i[near], order[j[near]])), shape=(len(true), len(called)))
    found = maximum_bipartite_matching(graph, perm_type="column")
    rows = np.flatnonzero(found >= 0)
    return np.stack([rows, found[rows].astype(np.int64)], axis=1)


def event_scores(counts: EventCounts) -> EventScores:
    """Precision, recall and F-measure of counts (of a recording, a class, a data set: add them up first).

    >>> event_scores(EventCounts(hits=3, false=1, missed=3))
    Scores(precision=0.75, recall=0.5, f_measure=0.6)
    """
    hits, false, missed = counts.true_positive, counts.false_positive, counts.false_negative
    if not hits:
        return EventScores(LOWEST, LOWEST, LOWEST)
    return EventScores(hits / (hits + false), hits / (hits + missed), hits / (hits + (false + missed) / 2))


def mean_over_sets(sets: Iterable[EventCounts]) -> EventScores:
    """DCASE's overall scores: harmonic means over the data sets, so that none can be neglected.

    Args:
        sets: The counts of each data set, one or more.

    Raises:
        UserError: There is none.
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
