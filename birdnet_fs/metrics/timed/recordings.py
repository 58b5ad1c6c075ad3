"""Scores of the windows of a recording beside its annotated events, and what a threshold makes of them.

Consecutive windows whose score reaches the threshold are one detection, from the start of the first to the end of the
last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError

Times = NDArray[np.float64]  # [n, 2]: onset and offset, seconds


@dataclass(frozen=True, eq=False)
class ScoredRecording:
    """One recording.

    Attributes:
        starts_s: float64 [n_windows], ascending.
        ends_s: float64 [n_windows], ascending.
        scores: float [n_windows, n_classes].
        events: float64 [n_events, 2] of each class, onset and offset in seconds.
        duration_s: Length of the recording in seconds.
    """

    starts_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    scores: NDArray
    events: tuple[Times, ...]
    duration_s: float

    def detections(self, class_index: int, threshold: float) -> Times:
        """Detections of a class at a threshold.

        Args:
            class_index: Number of the class.
            threshold: Lowest score of a detection.

        Returns:
            [n_detections, 2], onset and offset in seconds, by onset.
        """
        active = np.concatenate([[False], self.scores[:, class_index] >= threshold, [False]])
        changes = np.flatnonzero(active[1:] != active[:-1])
        return np.stack([self.starts_s[changes[::2]], self.ends_s[changes[1::2] - 1]], axis=1)


def check_recordings(recordings: Sequence[ScoredRecording]) -> int:
    """Refuse recordings that cannot be compared.

    Args:
        recordings: The recordings.

    Returns:
        The number of classes.

    Raises:
        UserError: There is none, or their numbers of classes differ, a score is NaN, or an event does not end after it
            begins.
    """
    counts = {each.scores.shape[1] for each in recordings} | {len(each.events) for each in recordings}
    if len(counts) != 1:
        raise UserError(f"One or more recordings of the same classes were expected. Received: {sorted(counts)} classes")
    for each in recordings:
        if np.isnan(each.scores).any():
            raise UserError("scores must be numbers. Received: NaN")
        for times in each.events:
            if len(times) and not (np.isfinite(times).all() and (times[:, 1] > times[:, 0]).all()):
                raise UserError("Events must have a finite onset and a later offset.")
    return counts.pop()


def counts_by_threshold(
    recordings: Sequence[ScoredRecording], class_index: int, count: Callable[[ScoredRecording, Times], NDArray]
) -> tuple[NDArray, NDArray]:
    """Sum counts over recordings at every threshold that makes a difference.

    Args:
        recordings: The recordings.
        class_index: Number of the class.
        count: (recording, detections [n, 2]) -> counts [n_counts].

    Returns:
        Thresholds [n], descending, and the counts float64 [n, n_counts] at each.
    """
    values, steps = list[NDArray](), list[NDArray]()
    before: NDArray | float = 0.0  # counts without any detection
    for recording in recordings:
        own = np.unique(recording.scores[:, class_index])[::-1]
        found = [count(recording, recording.detections(class_index, value)) for value in own]
        none = count(recording, np.empty((0, 2))).astype(np.float64)
        before = before + none
        values.append(own)
        steps.append(np.diff(np.stack([none, *found]), axis=0))
    thresholds = np.concatenate(values)
    order = np.argsort(-thresholds, kind="stable")
    thresholds, counts = thresholds[order], before + np.cumsum(np.concatenate(steps)[order], axis=0)
    last = np.append(thresholds[1:] != thresholds[:-1], True)
    return thresholds[last], counts[last]


def overlaps(detections: Times, events: Times) -> NDArray[np.float64]:
    """Seconds that each detection [n, 2] shares with each event [m, 2]: [n, m]."""
    first = np.maximum(detections[:, None, 0], events[None, :, 0])
    return np.maximum(np.minimum(detections[:, None, 1], events[None, :, 1]) - first, 0.0)
