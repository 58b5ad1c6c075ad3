"""Numbers of scored windows against annotations with times, for metrics.json and the terminal.

Consecutive windows above a threshold are one detection, so that times are as exact as windows are short. Windows that
overlap stand for the time around their middle; false alarms are counted by whole windows.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.score_table import ScoreTable
from birdnet_fs.metrics.timed.event_scores import event_scores_by_class
from birdnet_fs.metrics.timed.false_alarms import RATES, detection_rate
from birdnet_fs.metrics.timed.psds import LOCALIZED, PRESENT, psds
from birdnet_fs.metrics.timed.recordings import ScoredRecording

Floats = NDArray[np.float64]
WAYS: Mapping[str, float | None] = {"iou_0.3": 0.3, "iou_0.5": 0.5, "collar": None}
THRESHOLD = 0.5


def scored_recordings(
    table: ScoreTable, events: Iterable[Clip], *, without_overlap: bool = True
) -> list[ScoredRecording]:
    """Put scores and events of each recording together.

    Args:
        table: Scores of windows.
        events: Annotated events with onset and offset; those of other recordings are left out.
        without_overlap: Whether windows that overlap stand for the time around their middle. Default: True.

    Returns:
        The recordings in the order of the table, windows by onset.
    """
    rows: dict[str, list[int]] = {}
    for number, row in enumerate(table.rows):
        rows.setdefault(row.path, []).append(number)
    by_path: dict[str, list[Clip]] = {}
    for event in events:
        by_path.setdefault(str(event.path), []).append(event)
    found = []
    for path, numbers in rows.items():
        starts = np.array([table.rows[n].onset_s for n in numbers])
        ends = starts + np.array([table.rows[n].duration_s for n in numbers])
        order = np.argsort(starts, kind="stable")
        duration_s, starts, ends = float(ends.max()), starts[order], ends[order]
        if without_overlap:
            starts, ends = _without_overlap(starts, ends)
        times = tuple(
            np.array(
                sorted(
                    (each.onset_s, each.offset_s)
                    for each in by_path.get(path, ())
                    if name in each.labels and each.offset_s is not None and each.offset_s > each.onset_s
                ),
                np.float64,
            ).reshape(-1, 2)
            for name in table.classes
        )
        scores = table.scores[numbers][order]
        found.append(ScoredRecording(starts, ends, scores, times, duration_s))
    return found


def _without_overlap(onsets_s: Floats, offsets_s: Floats) -> tuple[Floats, Floats]:
    """Times [n] that windows stand for: two that overlap meet in the middle of what they share."""
    middle = (np.minimum(offsets_s[:-1], offsets_s[1:]) + onsets_s[1:]) / 2
    overlap = offsets_s[:-1] > onsets_s[1:]
    onsets_s, offsets_s = onsets_s.copy(), offsets_s.copy()
    onsets_s[1:][overlap], offsets_s[:-1][overlap] = middle[overlap], middle[overlap]
    return onsets_s, offsets_s


def timed_numbers(table: ScoreTable, events: Sequence[Clip]) -> dict[str, Any]:
    """Metrics as plain JSON values; undefined ones are None.

    Args:
        table: Scores of the windows of whole recordings, probabilities.
        events: Their annotated events.

    Returns:
        n_events, hours, psds_localized and psds_present (PSDS of the two scenarios of DCASE task 4),
        detection_rate (share of detected events by false alarms per hour and class), f_measure and best_f_measure (by
        iou_0.3, iou_0.5 and collar: macro means, at 0.5 and at the best threshold of each class), window_s, and
        per_class with name, n_events and the same keys. {} when no class has an event.
    """
    recordings = scored_recordings(table, events)
    n_events = [sum(len(each.events[c]) for each in recordings) for c in range(len(table.classes))]
    if not any(n_events):
        return {}
    scores = {name: psds(recordings, scenario) for name, scenario in (("localized", LOCALIZED), ("present", PRESENT))}
    rates = detection_rate(scored_recordings(table, events, without_overlap=False))
    ways = {way: event_scores_by_class(recordings, threshold=THRESHOLD, min_iou=iou) for way, iou in WAYS.items()}
    shown = [f"{rate:g}" for rate in RATES]
    found: dict[str, Any] = {
        "n_events": sum(n_events),
        "hours": sum(each.duration_s for each in recordings) / 3600,
        "window_s": float(np.median([row.duration_s for row in table.rows])),
        **{f"psds_{name}": _plain(each.value) for name, each in scores.items()},
        "detection_rate": dict(zip(shown, map(_plain, rates.mean), strict=True)),
        "f_measure": {way: _mean(each.f_measure for each in rows) for way, rows in ways.items()},
        "best_f_measure": {way: _mean(each.best_f_measure for each in rows) for way, rows in ways.items()},
    }
    found["per_class"] = [
        {
            "name": escaped(name),
            "n_events": n_events[c],
            **{f"psds_{key}": _plain(each.per_class[c]) for key, each in scores.items()},
            "detection_rate": dict(zip(shown, map(_plain, rates.per_class[c]), strict=True)),
            "f_measure": {way: _plain(rows[c].f_measure) for way, rows in ways.items()},
            "best_f_measure": {way: _plain(rows[c].best_f_measure) for way, rows in ways.items()},
        }
        for c, name in enumerate(table.classes)
    ]
    return found


def timed_lines(numbers: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal."""
    rates = ", ".join(f"{_shown(share)} at {rate}/h" for rate, share in numbers["detection_rate"].items())
    measures = ", ".join(
        f"{way} {_shown(value)} (best {_shown(numbers['best_f_measure'][way])})"
        for way, value in numbers["f_measure"].items()
    )
    return [
        f"{numbers['n_events']} events in {numbers['hours']:.2f} h, windows of {numbers['window_s']:g} s: PSDS "
        f"{_shown(numbers['psds_localized'])} (exact times), {_shown(numbers['psds_present'])} (right class)",
        f"detected events by false alarms per hour and class: {rates}",
        f"F-measure of events at {THRESHOLD:g}: {measures}",
    ]


def _mean(values: Iterable[float]) -> float | None:
    defined = [value for value in values if math.isfinite(value)]
    return float(np.mean(defined)) if defined else None


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
