"""Precision, recall and F-measure of events at a threshold, by intersection over union or by collars.

Source of the collars: A. Mesaros, T. Heittola, T. Virtanen 2016, "Metrics for polyphonic sound event detection",
https://doi.org/10.3390/app6060162: an event and a detection match when their onsets differ by at most 200 ms and their
offsets by at most 200 ms or a fifth of the event. As many pairs as possible are matched, each at most once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from birdnet_fs.metrics.event_f1 import EventCounts, match_events
from birdnet_fs.metrics.timed.recordings import ScoredRecording, Times, check_recordings

COLLAR_S = 0.2
COLLAR_SHARE = 0.2  # of the length of an event, for its offset
ROUNDING_S = 1e-6  # times in tables are rounded
N_THRESHOLDS = 50  # quantiles of the scores at which the best F-measure is looked for


@dataclass(frozen=True)
class ClassEvents:
    """Scores of the events of one class.

    Attributes:
        n_events: Annotated events.
        counts: Matches at the threshold.
        f_measure: F-measure at the threshold, 0..1; nan without events.
        best_f_measure: Highest F-measure over thresholds chosen on these very recordings; nan without events.
        best_threshold: Threshold of the highest F-measure; nan without events.
    """

    n_events: int
    counts: EventCounts
    f_measure: float
    best_f_measure: float
    best_threshold: float


def match_by_collars(events: Times, detections: Times) -> NDArray[np.int64]:
    """Match events with detections whose onsets and offsets are close.

    Args:
        events: [n, 2], onset and offset in seconds.
        detections: [m, 2], likewise.

    Returns:
        int64 [n_pairs, 2]: row of the event and row of the detection.

    >>> match_by_collars(np.array([[1.0, 4.0]]), np.array([[1.1, 4.5], [3.0, 4.0]])).tolist()
    [[0, 0]]
    """
    if not len(events) or not len(detections):
        return np.empty((0, 2), np.int64)
    collars = np.maximum(COLLAR_S, COLLAR_SHARE * (events[:, 1] - events[:, 0]))
    away = np.abs(events[:, None] - detections[None])
    fits = (away[..., 0] <= COLLAR_S + ROUNDING_S) & (away[..., 1] <= collars[:, None] + ROUNDING_S)
    found = maximum_bipartite_matching(csr_array(fits.astype(np.int8)), perm_type="column")
    rows = np.flatnonzero(found >= 0)
    return np.stack([rows, found[rows].astype(np.int64)], axis=1)


def event_scores_by_class(
    recordings: Sequence[ScoredRecording], *, threshold: float = 0.5, min_iou: float | None = None
) -> list[ClassEvents]:
    """Score the events of every class; UserErrors are those of `check_recordings`.

    Args:
        recordings: Recordings of the same classes.
        threshold: Lowest score of a detection. Default: 0.5.
        min_iou: Intersection over union of a match has to be more than this, 0..1. Default: None, collars.

    Returns:
        Scores of each class.
    """
    found = []
    for c in range(check_recordings(recordings)):
        n_events = sum(len(each.events[c]) for each in recordings)
        counts = _counts(recordings, c, threshold, min_iou)
        if not n_events:
            found.append(ClassEvents(0, counts, *[float("nan")] * 3))
            continue
        scores = np.concatenate([each.scores[:, c] for each in recordings])
        tried = np.unique(np.quantile(scores, np.linspace(0, 1, N_THRESHOLDS), method="higher"))
        measures = [_f_measure(_counts(recordings, c, value, min_iou)) for value in tried]
        best = int(np.argmax(measures))
        found.append(ClassEvents(n_events, counts, _f_measure(counts), measures[best], float(tried[best])))
    return found


def _counts(recordings: Sequence[ScoredRecording], c: int, threshold: float, min_iou: float | None) -> EventCounts:
    total = EventCounts()
    for recording in recordings:
        events, detections = recording.events[c], recording.detections(c, threshold)
        pairs = (
            match_by_collars(events, detections)
            if min_iou is None
            else match_events(events, detections, min_iou=min_iou)
        )
        total += EventCounts(len(pairs), len(detections) - len(pairs), len(events) - len(pairs))
    return total


def _f_measure(counts: EventCounts) -> float:
    n = 2 * counts.true_positive + counts.false_positive + counts.false_negative
    return 2 * counts.true_positive / n if n else 0.0
