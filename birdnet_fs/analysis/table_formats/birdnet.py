"""The CSV of the `birdnet` Python package; times are HH:MM:SS.CC, to the hundredth of a second."""

from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.table_formats.text import comma_table, number, recording_path, whole_units

HEADER = ("input", "start_time", "end_time", "species_name", "confidence")


def render(recording: RecordingDetections) -> str:
    """The table; species_name is the whole class name."""
    return comma_table(
        HEADER,
        (
            (
                recording_path(recording),
                clock(found.onset_s),
                clock(found.offset_s),
                found.label,
                number(found.confidence, recording),
            )
            for found in recording.detections
        ),
    )


def clock(value: float) -> str:
    """Seconds as HH:MM:SS.CC, truncated to hundredths.

    >>> clock(3723.5)
    '01:02:03.50'
    """
    hundredths = whole_units(value, 100)
    minutes, rest = divmod(hundredths, 6_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 100:02d}.{rest % 100:02d}"
