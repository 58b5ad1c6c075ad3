"""The polyphonic sound detection score (PSDS), exact over all thresholds.

Sources: C. Bilen, G. Ferroni, F. Tuveri, J. Azcarreta, S. Krstulovic 2020, "A framework for the robust evaluation of
sound event detection", ICASSP, https://arxiv.org/abs/1910.08440; J. Ebbers, R. Serizel, R. Haeb-Umbach 2022,
"Threshold independent evaluation of sound event detection scores", ICASSP, https://arxiv.org/abs/2201.13148, whose
library sed_scores_eval the tests compare with.

A detection is right when events of its class cover `dtc` of it; an event is found when right detections cover `gtc` of
it. A wrong detection of which events of another class cover `cttc` is a cross trigger of that class. The score is the
area under the mean over the classes of the share of found events, minus `alpha_st` standard deviations, against false
detections per hour plus `alpha_ct` times the mean rate of cross triggers, up to `max_rate`. Classes without events are
left out, also as other classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.metrics.timed.recordings import (
    ScoredRecording,
    Times,
    check_recordings,
    counts_by_threshold,
    overlaps,
)

DECIMALS = 6  # of seconds, so that a share that is met exactly is not missed by rounding, as in sed_scores_eval
HOUR_S = 3600.0
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]  # rate of errors per hour, ascending, and share of events


@dataclass(frozen=True)
class Scenario:
    """Scenario of the score: which detections count as right, and the costs of errors, as in DCASE task 4.

    Attributes:
        dtc: Share of a detection that events must cover, 0..1.
        gtc: Share of an event that right detections must cover, 0..1.
        cttc: Share of a wrong detection that events of another class must cover, 0..1.
        alpha_ct: Weight of cross triggers, 0 or more.
        alpha_st: Weight of the standard deviation over the classes, 0 or more.
        max_rate: Highest rate of errors per hour, above 0.
    """

    dtc: float
    gtc: float
    cttc: float = 0.3
    alpha_ct: float = 0.0
    alpha_st: float = 1.0
    max_rate: float = 100.0


LOCALIZED = Scenario(dtc=0.7, gtc=0.7)  # scenario 1 of DCASE task 4: exact times
PRESENT = Scenario(dtc=0.1, gtc=0.1, cttc=0.3, alpha_ct=0.5)  # scenario 2: the right class


@dataclass(frozen=True)
class PSDS:
    """The score and those of the classes.

    Attributes:
        value: The score in 0..1.
        per_class: float64 [n_classes], of each class alone; nan without events.
    """

    value: float
    per_class: NDArray[np.float64]


def psds(recordings: Sequence[ScoredRecording], scenario: Scenario = LOCALIZED) -> PSDS:
    """Compute the score; UserErrors of `check_recordings` are passed on.

    Args:
        recordings: Recordings of the same classes.
        scenario: Criteria of a right detection, and the costs of errors. Default: LOCALIZED.

    Returns:
        The score.

    Raises:
        UserError: No class has an event.
    """
    n_classes = check_recordings(recordings)
    scored = [c for c in range(n_classes) if any(len(each.events[c]) for each in recordings)]
    if not scored:
        raise UserError("PSDS needs annotated events of one class or more. Received: none")
    others = scored if scenario.alpha_ct else []
    curves = {c: _curve(recordings, c, [other for other in others if other != c], scenario) for c in scored}
    rates = np.unique(np.concatenate([rate for rate, _ in curves.values()]))
    shares = np.stack([_at(curve, rates) for curve in curves.values()])
    mean = np.maximum(shares.mean(axis=0) - scenario.alpha_st * shares.std(axis=0), 0.0)
    per_class = np.full(n_classes, np.nan)
    for c, (rate, share) in curves.items():
        per_class[c] = _area(rate, share, scenario.max_rate)
    return PSDS(_area(rates, mean, scenario.max_rate), per_class)


def _curve(recordings: Sequence[ScoredRecording], c: int, others: list[int], scenario: Scenario) -> Curve:
    """Share of found events against the rate of errors of one class, as a staircase."""

    def count(recording: ScoredRecording, detections: Times) -> NDArray:
        return _counts(detections, recording.events[c], [recording.events[other] for other in others], scenario)

    _, counts = counts_by_threshold(recordings, c, count)
    hours = sum(each.duration_s for each in recordings) / HOUR_S
    n_events = sum(len(each.events[c]) for each in recordings)
    rate = counts[:, 1] / hours
    if others:
        lengths_s = np.array([sum(float(np.diff(each.events[other]).sum()) for each in recordings) for other in others])
        rate = rate + scenario.alpha_ct * (counts[:, 2:] / (lengths_s / HOUR_S)).mean(axis=1)
    rate, share = np.concatenate([[0.0], rate]), np.concatenate([[0.0], counts[:, 0] / n_events])
    order = np.lexsort((share, rate))
    rate, share = rate[order], np.maximum.accumulate(share[order])
    last = np.append(rate[1:] != rate[:-1], True) & (rate <= scenario.max_rate)
    return rate[last], share[last]


def _counts(detections: Times, events: Times, others: list[Times], scenario: Scenario) -> NDArray:
    """Found events, wrong detections, and cross triggers of each other class."""
    lengths, shared = detections[:, 1] - detections[:, 0], overlaps(detections, events)
    right = np.round(shared.sum(axis=1), DECIMALS) >= np.round(scenario.dtc * lengths, DECIMALS)
    covered = np.round(shared[right].sum(axis=0), DECIMALS)
    found = covered >= np.round(scenario.gtc * (events[:, 1] - events[:, 0]), DECIMALS)
    wrong = detections[~right]
    needed = np.round(scenario.cttc * lengths[~right], DECIMALS)
    crossed = [
        np.count_nonzero(np.round(overlaps(wrong, other).sum(axis=1), DECIMALS) >= needed) if len(other) else 0
        for other in others
    ]
    return np.array([np.count_nonzero(found), len(wrong), *crossed])


def _at(curve: Curve, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shares of a staircase that begins at rate 0, at other rates [n]."""
    rate, share = curve
    places = np.searchsorted(rate, rates, side="right") - 1
    return np.where(places >= 0, share[np.maximum(places, 0)], 0.0)


def _area(rate: NDArray[np.float64], share: NDArray[np.float64], max_rate: float) -> float:
    """Mean height of a staircase from 0 to the highest rate."""
    widths = np.diff(np.append(rate, max_rate))
    return float((share * widths).sum() / max_rate)
