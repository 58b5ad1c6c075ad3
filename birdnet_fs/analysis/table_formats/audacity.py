"""Audacity label track: start, end and class name, tab-separated, no header."""

from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.table_formats.text import seconds, tab_table


def render(recording: RecordingDetections) -> str:
    """The label track; labels are class names alone, so that the track can be read as training labels."""
    return tab_table(
        (), ((seconds(found.onset_s), seconds(found.offset_s), found.label) for found in recording.detections)
    )
