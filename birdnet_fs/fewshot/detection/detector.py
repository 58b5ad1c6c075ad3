"""A detector of one class in one recording: a logistic regression that is fitted to the recording itself.

After the systems of the DCASE task on few-shot bioacoustic event detection
(https://dcase.community/challenge2024/task-few-shot-bioacoustic-event-detection): windows of the mean length of the
examples, negatives from the gaps between the examples, and a classifier that is fitted in seconds. Positives are the
windows of the examples, moved by up to a tenth; negatives are windows between the examples, windows that are half on an
example, and windows at random of the whole recording that resemble no example. With `rounds`, windows that are
confidently positive or negative are added and the regression is fitted again (transductive refitting).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.fewshot.detection.frames import Frames
from birdnet_fs.fewshot.detection.windows import Windows, cut_windows

MOST_NEGATIVES = 1500  # of each kind
POSITIVE_SHARE = 0.1  # of all weight in the regression: most windows of a recording hold no event
REGULARIZATION = 0.3  # C of scikit-learn
CORRELATION_WEIGHT = 5.0  # factor of the correlations among the standardized energies
DISSIMILAR = 0.8  # share of the median correlation of two examples below which a window at random is a negative
CONFIDENT, MOST_CONFIDENT = 0.9, 200  # probability from which a peak is added as a positive, and how many at most

Times = NDArray[np.float64]  # [n, 2]: onset and offset, seconds


@dataclass(frozen=True)
class DetectionSettings:
    """Settings of the detection of events."""

    n_shots: int = 5  # first events of a class in a recording that are its examples, 2 or more: they are compared
    sample_rate_hz: int = 32_000  # rate at which recordings are read
    fmin_hz: float = 200.0  # lowest frequency of the bands
    fmax_hz: float = 15_000.0  # highest frequency of the bands
    threshold: float = 0.5  # lowest probability of a detection, 0..1
    rounds: int = 1  # refits with confident windows
    seed: int = 0  # of the windows at random

    def __post_init__(self) -> None:
        for name, low, high in (
            ("n_shots", 2, 1000),
            ("sample_rate_hz", 1000, 1_000_000),
            ("rounds", 0, 100),
            ("threshold", 0, 1),
            ("seed", 0, 2**64 - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"{name} must be in {low}..{high}. Received: {value}")
        if not 0 <= self.fmin_hz < self.fmax_hz <= self.sample_rate_hz / 2:
            raise UserError(
                f"fmin and fmax must be in 0..{self.sample_rate_hz / 2:g} Hz, half of the sample rate, and fmin below "
                f"fmax. Received: {self.fmin_hz:g} and {self.fmax_hz:g}"
            )


@dataclass(frozen=True, eq=False)
class Detections:
    """Detected events of a class in a recording, by onset.

    Attributes:
        times: float64 [n, 2], onset and offset in seconds; all have the mean length of the examples.
        probabilities: float64 [n], 0..1.
    """

    times: Times
    probabilities: NDArray[np.float64]


def detect_events(frames: Frames, shots_s: Times, unsure_s: Times, settings: DetectionSettings) -> Detections:
    """Detect the events of a class after its examples.

    Args:
        frames: Frames of the recording.
        shots_s: float64 [n, 2], onset and offset of the examples in seconds, by onset.
        unsure_s: float64 [n, 2], times that may or may not hold the class, which are no negatives.
        settings: Uses `threshold`, `rounds` and `seed`.

    Returns:
        Detections that begin after the last example ends; they do not overlap.
    """
    windows = cut_windows(frames, shots_s)
    probabilities = window_probabilities(windows, shots_s, unsure_s, settings)
    starts = pick_windows(probabilities, windows.n_frames, settings.threshold)
    onsets = starts * windows.hop_s
    later = onsets >= shots_s[-1, 1]
    times = np.stack([onsets, onsets + windows.n_frames * windows.hop_s], axis=1)[later]
    return Detections(times, probabilities[starts][later])


def window_probabilities(
    windows: Windows, shots_s: Times, unsure_s: Times, settings: DetectionSettings
) -> NDArray[np.float64]:
    """Fit the regression and score all windows; the arguments are those of `detect_events`.

    Args:
        windows: All windows of the recording.
        shots_s: Times of the examples.
        unsure_s: Times that are no negatives.
        settings: Uses `rounds` and `seed`.

    Returns:
        float64 [n_windows], 0..1.

    Raises:
        UserError: No window of the recording can be a negative.
    """
    from sklearn.linear_model import LogisticRegression

    rng = generator(settings.seed, Stream.DETECTION_NEGATIVES)
    shift = max(1, windows.n_frames // 10)
    moved = windows.shots[:, None] + np.arange(-shift, shift + 1)
    inside = (moved >= 0) & (moved < len(windows))
    positives, owners = moved[inside], np.nonzero(inside)[0]
    free = ~_overlapping(windows, np.concatenate([shots_s, unsure_s]))
    negatives = _negatives(windows, positives, free, shots_s[-1, 1], rng)
    if not len(negatives):
        raise UserError("no part of the recording is without an event, so that there are no negative examples")
    everything = np.arange(len(windows))
    values = _values(windows, everything)
    of_shots = _values(windows, positives, owners)
    added, dropped = np.empty(0, np.int64), np.empty(0, np.int64)
    for repeat in range(settings.rounds + 1):
        x = np.concatenate([of_shots, values[added], values[negatives], values[dropped]])
        n_negative = len(negatives) + len(dropped)
        share = POSITIVE_SHARE / 2 if len(added) else POSITIVE_SHARE
        weights = np.concatenate(
            [
                np.full(len(of_shots), share / len(of_shots)),
                np.full(len(added), POSITIVE_SHARE / 2 / max(1, len(added))),
                np.full(n_negative, (1 - POSITIVE_SHARE) / n_negative),
            ]
        )
        y = np.arange(len(x)) < len(of_shots) + len(added)
        regression = LogisticRegression(C=REGULARIZATION, max_iter=500)
        regression.fit(x, y, sample_weight=weights * len(x))
        probabilities = np.asarray(regression.predict_proba(values)[:, 1], np.float64)
        if repeat < settings.rounds:
            peaks = pick_windows(probabilities, windows.n_frames, CONFIDENT)
            peaks = peaks[free[peaks]]
            added = peaks[np.argsort(-probabilities[peaks], kind="stable")][:MOST_CONFIDENT]
            unlikely = np.flatnonzero(free & (probabilities < 1 - CONFIDENT))
            dropped = _drawn(unlikely, rng)
    return probabilities


def pick_windows(scores: NDArray[np.float64], n_frames: int, threshold: float) -> NDArray[np.int64]:
    """Choose windows that do not overlap, the highest first.

    Args:
        scores: float64 [n_windows], one for each frame that a window starts at.
        n_frames: Length of a window in frames.
        threshold: Lowest score.

    Returns:
        int64 [n], sorted.

    >>> pick_windows(np.array([0.1, 0.7, 0.9, 0.8, 0.6]), 2, 0.5).tolist()
    [2, 4]
    """
    above = np.flatnonzero(scores >= threshold)
    taken, chosen = np.zeros(len(scores) + n_frames, bool), []
    for start in above[np.argsort(-scores[above], kind="stable")].tolist():
        if not taken[start : start + n_frames].any():
            taken[start : start + n_frames] = True
            chosen.append(start)
    return np.array(sorted(chosen), np.int64)


def _negatives(
    windows: Windows, positives: NDArray[np.int64], free: NDArray[np.bool_], end_s: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Windows between the examples, half on them, and at random where they resemble none."""
    length_s, n = windows.n_frames * windows.hop_s, len(windows)
    between = np.flatnonzero(free & (np.arange(n) * windows.hop_s + length_s <= end_s))
    half = windows.n_frames // 2 + 1
    beside = np.unique(np.clip(np.concatenate([windows.shots - half, windows.shots + half]), 0, n - 1))
    beside = beside[~np.isin(beside, positives)]
    examples = windows.correlations[windows.shots]
    pairs = examples[np.triu_indices(len(examples), 1)]
    limit = DISSIMILAR * float(np.median(pairs)) if len(pairs) else DISSIMILAR
    other = np.flatnonzero(free & (windows.correlations.max(axis=1) < limit))
    return np.concatenate([_drawn(between, rng), beside, _drawn(other, rng)])


def _drawn(windows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.choice(windows, MOST_NEGATIVES, replace=False) if len(windows) > MOST_NEGATIVES else windows


def _values(
    windows: Windows, numbers: NDArray[np.int64], owners: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Input of the regression for windows [n, width]."""
    similar = windows.similar(numbers, owners) * np.float32(CORRELATION_WEIGHT)
    return np.concatenate([windows.pooled[numbers], similar], axis=1)


def _overlapping(windows: Windows, times_s: Times) -> NDArray[np.bool_]:
    """Whether windows [n_windows] share time with any of some spans [n, 2]."""
    starts, found = np.arange(len(windows)) * windows.hop_s, np.zeros(len(windows), bool)
    for onset, offset in times_s.tolist():
        found |= (starts < offset) & (starts + windows.n_frames * windows.hop_s > onset)
    return found
