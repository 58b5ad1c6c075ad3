"""Share of detected events against false alarms per hour, the curve by which detectors of rare calls are compared.

An event is detected when a window that shares time with it reaches the threshold; a false alarm is a window that does
and shares time with no event of its class. Windows are counted, not runs of them: one run over a whole recording would
detect every event without a false alarm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.metrics.timed.recordings import ScoredRecording, check_recordings, overlaps

RATES = (0.1, 1.0, 10.0, 60.0)  # false alarms per hour and class
HOUR_S = 3600.0
ROUNDING = 1e-9  # of a number of false alarms


@dataclass(frozen=True)
class DetectionRate:
    """Shares of detected events.

    Attributes:
        rates: False alarms per hour and class, [n_rates].
        per_class: float64 [n_classes, n_rates]; nan for classes without events.
        mean: float64 [n_rates], over the classes with events; nan where there are none.
    """

    rates: tuple[float, ...]
    per_class: NDArray[np.float64]
    mean: NDArray[np.float64]


def detection_rate(recordings: Sequence[ScoredRecording], rates: Sequence[float] = RATES) -> DetectionRate:
    """Compute the largest share of detected events at given rates; UserErrors are those of `check_recordings`.

    Args:
        recordings: Recordings of the same classes.
        rates: Highest number of false alarms per hour and class, 0 or more. Default: RATES.

    Returns:
        The shares.
    """
    n_classes = check_recordings(recordings)
    hours = sum(each.duration_s for each in recordings) / HOUR_S
    found = np.full((n_classes, len(rates)), np.nan)
    for c in range(n_classes):
        highest, false = list[NDArray](), list[NDArray]()
        for each in recordings:
            windows = np.stack([each.starts_s, each.ends_s], axis=1)
            shared = overlaps(windows, each.events[c]) > 0
            scores = each.scores[:, c].astype(np.float64)
            highest.append(np.where(shared, scores[:, None], -np.inf).max(axis=0, initial=-np.inf))
            false.append(scores[~shared.any(axis=1)])
        of_events, descending = np.concatenate(highest), np.sort(np.concatenate(false))[::-1]
        if not len(of_events):
            continue
        for place, rate in enumerate(rates):
            n_allowed = int(rate * hours + ROUNDING)
            # the threshold is just above the first false alarm that is one too many
            limit = descending[n_allowed] if n_allowed < len(descending) else -np.inf
            found[c, place] = np.mean(of_events > limit)
    scored = found[~np.isnan(found).any(axis=1)]
    mean = scored.mean(axis=0) if len(scored) else np.full(len(rates), np.nan)
    return DetectionRate(tuple(rates), found, mean)
