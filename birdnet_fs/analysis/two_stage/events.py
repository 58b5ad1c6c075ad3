"""Conversion of predictions of windows to events of one class each.

Times are compared with a tolerance of a microsecond, so that a gap of 0.9 - 0.8 s is not below 0.1 s.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis.two_stage.windows import WindowPredictions

_TOLERANCE_S = 1e-6
_SLICE_S = 0.05  # longest slice of the rule "slices"


class Event(NamedTuple):
    """An event: times in seconds, class, mean probability, and the number of windows or slices it is the mean of."""

    onset_s: float
    offset_s: float
    class_index: int
    probability: float
    n: int = 1


def merge_windows(spans: NDArray[np.float64], predictions: WindowPredictions, hop_s: float) -> list[Event]:
    """Merge detected windows of a class with a gap below the hop; the probability is the mean of the windows.

    Args:
        spans: float64 [n_windows, 2], start and end of every window in seconds, in order.
        predictions: Their predictions.
        hop_s: Seconds from one window to the next.

    Returns:
        Events by onset, then by class.
    """
    rows = np.flatnonzero(predictions.detected)
    windows = [
        Event(
            float(spans[i, 0]), float(spans[i, 1]), int(predictions.class_index[i]), float(predictions.probability[i])
        )
        for i in rows
    ]
    return _joined(windows, hop_s)


def slice_events(
    spans: NDArray[np.float64], predictions: WindowPredictions, hop_s: float, noise: Sequence[int]
) -> list[Event]:
    """Give every slice of min(hop / 2, 50 ms) the prediction of its most probable window, and join equal slices.

    Args:
        spans: float64 [n_windows, 2], start and end of every window in seconds, in order.
        predictions: Their predictions.
        hop_s: Seconds from one window to the next.
        noise: Indices of the classes that are no events.

    Returns:
        Events by onset; they do not overlap. Of equally probable windows the first counts.
    """
    length = min(hop_s / 2, _SLICE_S)
    end = float(spans[-1, 1])
    middles = (np.arange(max(1, int(np.ceil(end / length - _TOLERANCE_S)))) + 0.5) * length
    first = np.searchsorted(spans[:, 1], middles, side="right")  # windows that end later
    last = np.searchsorted(spans[:, 0], middles, side="right") - 1  # windows that have begun
    best = np.full(len(middles), -1)
    for step in range(int((last - first).max()) + 1):
        place = first + step
        inside = place <= last
        other = np.minimum(place, len(spans) - 1)
        better = inside & ((best < 0) | (predictions.probability[other] > predictions.probability[best]))
        best[better] = other[better]
    labels = np.where((best >= 0) & predictions.detected[best], predictions.class_index[best], -1)
    labels[np.isin(labels, list(noise))] = -1
    edges = np.flatnonzero(np.diff(labels, prepend=-2, append=-2))
    return [
        Event(
            float(a * length),
            min(float(b * length), end),
            int(labels[a]),
            float(predictions.probability[best[a:b]].mean()),
            int(b - a),
        )
        for a, b in itertools.pairwise(edges.tolist())
        if labels[a] >= 0
    ]


def clean_events(events: Sequence[Event], min_event_s: float, max_gap_s: float) -> list[Event]:
    """Leave out short events, then join those of a class with a short gap.

    Args:
        events: Events by onset.
        min_event_s: Shorter events are left out.
        max_gap_s: Events of a class with a shorter gap are one.

    Returns:
        Events by onset, then by class.
    """
    long = [each for each in events if each.offset_s - each.onset_s >= min_event_s - _TOLERANCE_S]
    return _joined(long, max_gap_s)


def _joined(events: Sequence[Event], max_gap_s: float) -> list[Event]:
    """Join events of a class with a gap below `max_gap_s`; probabilities are averaged over windows or slices."""
    joined: list[Event] = []
    latest: dict[int, int] = {}  # class -> place of its last event
    for each in events:
        place = latest.get(each.class_index, -1)
        before = joined[place] if place >= 0 else None
        if before and each.onset_s - before.offset_s < max_gap_s - _TOLERANCE_S:
            n = before.n + each.n
            mean = (before.probability * before.n + each.probability * each.n) / n
            offset = max(before.offset_s, each.offset_s)
            joined[place] = before._replace(offset_s=offset, probability=mean, n=n)
        else:
            latest[each.class_index] = len(joined)
            joined.append(each)
    return sorted(joined, key=lambda each: (each.onset_s, each.class_index))
