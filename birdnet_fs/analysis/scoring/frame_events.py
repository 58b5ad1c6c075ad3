"""Events with onset and offset from the scores of frames: median filter and two thresholds.

Source: Dinkel, Wu & Yu 2021, "Towards duration robust weakly supervised sound event detection",
https://arxiv.org/abs/2101.07687 (double threshold): an event is a run of frames above a low threshold with at least one
frame above a high one, so that a call is found by its loudest part and keeps its quiet ends. The median filter before
removes single frames (Cakir et al. 2017, https://arxiv.org/abs/1702.06286).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from birdnet_fs.analysis.grid_scores import average_on_grid


class FrameEvent(NamedTuple):
    """A class between two frames, both included, with its highest score."""

    first: int
    last: int
    class_index: int
    confidence: float


def frames_in_order(
    scores: NDArray[np.float32], starts_s: NDArray[np.float64], window_s: float, duration_s: float
) -> tuple[NDArray[np.float32], float]:
    """Frames of a recording from those of its windows; frames that overlap are averaged.

    Args:
        scores: float32 [n_windows, n_steps, n_classes].
        starts_s: [n_windows], start of each window in seconds.
        window_s: Length of a window in seconds.
        duration_s: Length of the recording; frames behind it are left out.

    Returns:
        float32 [n_frames, n_classes] and the length of a frame in seconds.

    >>> scores = np.array([[[0.0], [0.5]], [[1.0], [0.25]]], np.float32)
    >>> frames_in_order(scores, np.array([0.0, 1.0]), 2.0, 3.0)[0].ravel().tolist()
    [0.0, 0.75, 0.25]
    """
    n_windows, n_steps, n_classes = scores.shape
    step_s = window_s / n_steps
    starts = (np.asarray(starts_s)[:, None] + np.arange(n_steps) * step_s).ravel()
    order = np.argsort(starts, kind="stable")
    spans = np.stack([starts, starts + step_s], axis=1)[order]
    rows = np.arange(max(1, int(np.ceil(round(duration_s / step_s, 6))))) * step_s
    return average_on_grid(scores.reshape(n_windows * n_steps, n_classes)[order], spans, rows, step_s), step_s


def frame_events(
    frames: NDArray[np.float32], *, high: float, low: float, classes: Sequence[int], median: int = 1
) -> list[FrameEvent]:
    """Events of the frames of a recording.

    Args:
        frames: float32 [n_frames, n_classes], probabilities in 0..1.
        high: Lowest probability of the best frame of an event, 0..1.
        low: Lowest probability of its other frames, at most `high`.
        classes: Indices of the classes that may be detected.
        median: Frames of the median filter, odd; 1 (default) = none.

    Returns:
        Events by first frame, then by descending confidence, then by class.

    >>> frames = np.array([[0.2], [0.5], [0.9], [0.4], [0.1], [0.5]], np.float32)
    >>> [each[:2] for each in frame_events(frames, high=0.6, low=0.3, classes=[0])]
    [(1, 3)]
    """
    found = []
    for class_index in classes:
        column = frames[:, class_index]
        if median > 1:
            column = median_filter(column, median, mode="nearest")
        above = np.concatenate([[False], column >= np.float32(low), [False]])
        edges = np.flatnonzero(above[1:] != above[:-1]).reshape(-1, 2)  # the first frame, and one past the last
        for first, end in edges.tolist():
            best = float(column[first:end].max())
            if np.float32(best) >= np.float32(high):
                found.append(FrameEvent(first, end - 1, class_index, best))
    return sorted(found, key=lambda each: (each.first, -each.confidence, each.class_index))
