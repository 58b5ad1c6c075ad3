"""Probabilities of windows -> detections: threshold, best n of a window, consecutive windows of a class merged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np


class WindowDetection(NamedTuple):
    """A class found in windows `first`..`last` (numbers, both included)."""

    first: int
    last: int
    class_index: int
    confidence: float


@dataclass(frozen=True)
class Detection:
    """A class called between two times, seconds from the start of the recording; confidence 0..1."""

    onset_s: float
    offset_s: float
    label: str
    confidence: float


@dataclass(frozen=True)
class RecordingDetections:
    """One recording with its detections, ordered by onset, then falling confidence: what a format writes.

    `root` is the input folder the recording was found in; the frequencies are the front-end's range.
    """

    path: Path
    root: Path
    low_hz: float
    high_hz: float
    detections: tuple[Detection, ...]


def pick_detections(
    probabilities: np.ndarray, *, min_confidence: float, top_n: int, allowed: Sequence[int], first_window: int = 0
) -> list[WindowDetection]:
    """The classes of each window that count.

    Args:
        probabilities: float32 [n_windows, n_classes].
        min_confidence: Lowest probability that counts, included.
        top_n: At most this many classes of a window, the most probable ones; 0 = no limit.
        allowed: Numbers of the classes that may be called.
        first_window: Number of the first row.

    Returns:
        Hits by window, then falling confidence, then class.
    """
    numbers = np.asarray(allowed)
    scores = probabilities[:, numbers]
    order = np.argsort(-scores, axis=1, kind="stable")[:, : top_n or len(numbers)]
    best = np.take_along_axis(scores, order, axis=1)
    rows, columns = np.nonzero(best >= np.float32(min_confidence))
    return [
        WindowDetection(
            first_window + row, first_window + row, int(numbers[order[row, column]]), float(best[row, column])
        )
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]


def merge_detections(detections: Sequence[WindowDetection], limit: int) -> list[WindowDetection]:
    """Join hits of one class in windows that follow each other; the confidence is the highest of them.

    The highest, not the mean: a joined hit then passes every threshold that one of its windows passes.

    Args:
        detections: One window each, in order of their windows.
        limit: At most this many windows in one; 1 joins nothing, 0 = no limit.

    >>> merge_detections([WindowDetection(0, 0, 7, 0.5), Hit(1, 1, 7, 0.9), Hit(3, 3, 7, 0.4)], 0)
    [Hit(first=0, last=1, class_index=7, confidence=0.9), Hit(first=3, last=3, class_index=7, confidence=0.4)]
    """
    joined: list[WindowDetection] = []
    latest: dict[int, int] = {}  # class -> place of its last hit in `joined`
    for hit in detections:
        place = latest.get(hit.class_index, -1)
        before = joined[place] if place >= 0 else None
        if before and before.last + 1 == hit.first and (limit == 0 or hit.first - before.first < limit):
            joined[place] = before._replace(last=hit.last, confidence=max(before.confidence, hit.confidence))
        else:
            latest[hit.class_index] = len(joined)
            joined.append(hit)
    return sorted(joined, key=lambda hit: (hit.first, -hit.confidence, hit.class_index))
