"""Summaries of all detections: species by recording (summary.csv), and activity by hour of day (activity.csv).

Hours of recording are those that could be decoded; hours of day are those of the clock times, in their zone.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from birdnet_fs.analysis.combined.clock_time import ClockTime
from birdnet_fs.analysis.combined.tables import clock_text, confidence_of
from birdnet_fs.analysis.detections import Detection, RecordingDetections
from birdnet_fs.analysis.resume import Outcome
from birdnet_fs.analysis.table_formats.text import comma_table, recording_path, split_label
from birdnet_fs.core.files import write_text
from birdnet_fs.core.text import escaped

SUMMARY, ACTIVITY = "summary.csv", "activity.csv"
HOURS = tuple(f"hour_{hour:02d}" for hour in range(24))
SUMMARY_COLUMNS = (
    "path",
    "start_time",
    "hours_recorded",
    "label",
    "scientific_name",
    "common_name",
    "n_detections",
    "detections_per_hour",
    "max_confidence",
    *HOURS,
)
ACTIVITY_COLUMNS = (
    "label",
    "scientific_name",
    "common_name",
    "hour",
    "n_detections",
    "hours_recorded",
    "detections_per_hour",
)


@dataclass
class Summary:
    """Collects the rows of both summaries, one recording at a time."""

    _rows: list[tuple[object, ...]] = field(default_factory=list)
    _by_hour: Counter[tuple[str, int]] = field(default_factory=Counter)
    _recorded: dict[int, float] = field(default_factory=dict)

    def add(self, recording: RecordingDetections, outcome: Outcome, clock: ClockTime) -> None:
        """Add a recording; one without detections has a row with an empty label.

        Args:
            recording: Detections and style of the recording.
            outcome: Outcome of the recording, with its length.
            clock: Start of the recording by the clock.
        """
        head = (recording_path(recording), clock_text(clock.start), f"{outcome.duration_s / 3600:.6f}")
        found: dict[str, list[Detection]] = {}
        for each in recording.detections:
            found.setdefault(each.label, []).append(each)
        for hour, hours in _hours_recorded(clock, outcome.duration_s).items():
            self._recorded[hour] = self._recorded.get(hour, 0.0) + hours
        for label, detections in sorted(found.items()):
            counted = Counter(_hour(clock, each.onset_s) for each in detections)
            for hour, count in counted.items():
                self._by_hour[label, hour] += count
            highest = confidence_of(max(each.confidence for each in detections), recording)
            cells = ["" if clock.start is None else counted[hour] for hour in range(24)]
            counts = (len(detections), _per_hour(len(detections), outcome.duration_s / 3600), highest)
            self._rows.append((*head, escaped(label), *split_label(label), *counts, *cells))
        if not found:
            cells = ["" if clock.start is None else 0] * 24
            self._rows.append((*head, "", "", "", 0, _per_hour(0, outcome.duration_s / 3600), "", *cells))

    def write(self, folder: Path) -> None:
        """Write both files into a folder."""
        write_text(folder / SUMMARY, comma_table(SUMMARY_COLUMNS, self._rows))
        labels = sorted({label for label, _ in self._by_hour})
        rows = []
        for label in labels:
            for hour in (*range(24), _NO_HOUR):
                count, hours = self._by_hour[label, hour], self._recorded.get(hour, 0.0)
                if count or hours:
                    shown = "" if hour == _NO_HOUR else hour
                    names = (escaped(label), *split_label(label))
                    rows.append((*names, shown, count, f"{hours:.6f}", _per_hour(count, hours)))
        write_text(folder / ACTIVITY, comma_table(ACTIVITY_COLUMNS, rows))


_NO_HOUR = -1  # detections in recordings whose clock time is not known


def _hour(clock: ClockTime, seconds: float) -> int:
    time = clock.at(seconds)
    return _NO_HOUR if time is None else time.hour


def _hours_recorded(clock: ClockTime, duration_s: float) -> dict[int, float]:
    """Hours of recording by hour of day."""
    found: dict[int, float] = {}
    at = 0.0
    while at < duration_s:
        time = clock.at(at)
        if time is None:
            found[_NO_HOUR] = duration_s / 3600
            break
        since = timedelta(minutes=time.minute, seconds=time.second, microseconds=time.microsecond).total_seconds()
        step = min(3600 - since, duration_s - at)
        found[time.hour] = found.get(time.hour, 0.0) + step / 3600
        at += step
    return found


def _per_hour(count: int, hours: float) -> str:
    return f"{count / hours:.4f}" if hours else ""
