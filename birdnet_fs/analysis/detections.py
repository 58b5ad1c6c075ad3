"""Detections from probabilities of windows: threshold, top n of a window, merging of consecutive windows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class WindowDetection(NamedTuple):
    """A class detected in windows `first` to `last` (numbers of windows, both included)."""

    first: int
    last: int
    class_index: int
    confidence: float


@dataclass(frozen=True)
class Detection:
    """A class detected between two times, in seconds from the start of the recording; confidence in 0..1."""

    onset_s: float
    offset_s: float
    label: str
    confidence: float


@dataclass(frozen=True)
class TableStyle:
    """Style of tables, apart from their format.

    Attributes:
        relative_paths: Whether paths of recordings are written relative to the input folder, with `/`. Default: False.
        full_precision: Whether confidences have 9 significant digits, which float32 needs, instead of 4 decimals.
            Default: False.
    """

    relative_paths: bool = False
    full_precision: bool = False


DEFAULT_STYLE = TableStyle()


@dataclass(frozen=True)
class RecordingDetections:
    """One recording with its detections: the input of a table format.

    Attributes:
        path: The recording, absolute; relative where an embedding store does not state its folder.
        root: Input folder that the recording is in, at any depth; absolute as the path is.
        low_hz: Lowest frequency of the model's front-end.
        high_hz: Highest frequency of the model's front-end.
        detections: Detections by onset, then by descending confidence.
        window_s: Length of the windows that were scored, in seconds. Default: 0, not known.
        hop_s: Seconds from one window to the next. Default: 0, not known.
        n_windows: Number of windows. Default: 0, not known.
        log: Text of the prediction log of ANIMAL-SPOT. Default: "", none.
        style: Style of the tables of the recording. Default: absolute paths, 4 decimals.
    """

    path: Path
    root: Path
    low_hz: float
    high_hz: float
    detections: tuple[Detection, ...]
    window_s: float = 0.0
    hop_s: float = 0.0
    n_windows: int = 0
    log: str = ""
    style: TableStyle = DEFAULT_STYLE


def pick_detections(
    probabilities: np.ndarray,
    *,
    min_confidence: ArrayLike,
    top_n: int,
    allowed: Sequence[int],
    no_call: Collection[int] = (),
    first_window: int = 0,
) -> list[WindowDetection]:
    """Select the classes of each window that are detected.

    Args:
        probabilities: float32 [n_windows, n_classes].
        min_confidence: Lowest probability of a detection, included, 0..1: one number, or [n_classes], infinite for a
            class that is never detected.
        top_n: Highest number of classes per window, the most probable ones; 0 = no limit.
        allowed: Indices of the classes that are ranked.
        no_call: Indices of `allowed` that mean that nothing calls: they take a place among the top n, and are no
            detections. Default: none.
        first_window: Number of the window in the first row. Default: 0.

    Returns:
        Detections of one window each, by window, then by descending confidence, then by class.
    """
    numbers = np.asarray(allowed)
    scores = probabilities[:, numbers]
    order = np.argsort(-scores, axis=1, kind="stable")[:, : top_n or len(numbers)]
    best = np.take_along_axis(scores, order, axis=1)
    lowest = np.broadcast_to(np.asarray(min_confidence, np.float32), probabilities.shape[1:])[numbers[order]]
    rows, columns = np.nonzero((best >= lowest) & ~np.isin(numbers[order], list(no_call)))
    return [
        WindowDetection(
            first_window + row, first_window + row, int(numbers[order[row, column]]), float(best[row, column])
        )
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]


def merge_detections(detections: Sequence[WindowDetection], limit: int) -> list[WindowDetection]:
    """Merge detections of one class in consecutive windows; the confidence is the highest of the windows.

    The highest is used instead of the mean, so that a merged detection passes every threshold that one of its windows
    passes.

    Args:
        detections: Detections of one window each, in the order of the windows.
        limit: Highest number of windows in a merged detection; 1 = no merging, 0 = no limit.

    Returns:
        Merged detections by first window, then by descending confidence, then by class.

    >>> found = [WindowDetection(0, 0, 7, 0.5), WindowDetection(1, 1, 7, 0.9), WindowDetection(3, 3, 7, 0.4)]
    >>> [(each.first, each.last, each.confidence) for each in merge_detections(found, 0)]
    [(0, 1, 0.9), (3, 3, 0.4)]
    """
    merged: list[WindowDetection] = []
    latest: dict[int, int] = {}  # class -> index of its last detection in `merged`
    for each in detections:
        place = latest.get(each.class_index, -1)
        before = merged[place] if place >= 0 else None
        if before and before.last + 1 == each.first and (limit == 0 or each.first - before.first < limit):
            merged[place] = before._replace(last=each.last, confidence=max(before.confidence, each.confidence))
        else:
            latest[each.class_index] = len(merged)
            merged.append(each)
    return sorted(merged, key=lambda each: (each.first, -each.confidence, each.class_index))
