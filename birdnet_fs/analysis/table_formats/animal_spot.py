"""Raven selection table with the columns of ANIMAL-SPOT; the comment is the confidence."""

from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.table_formats.raven import selection
from birdnet_fs.analysis.table_formats.text import number, tab_table

HEADER = (
    "Selection",
    "View",
    "Channel",
    "Begin time (s)",
    "End time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Sound type",
    "Comments",
)


def render(recording: RecordingDetections) -> str:
    """The table, one row per detection."""
    return tab_table(
        HEADER,
        (
            (*selection(row, found, recording), found.label, number(found.confidence, recording))
            for row, found in enumerate(recording.detections, 1)
        ),
    )
