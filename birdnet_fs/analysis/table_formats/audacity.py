"""Audacity label track: start, end, class name and confidence, tab-separated, no header.

Audacity shows the first three columns and ignores the fourth, which BirdNET-Analyzer writes as well; labels are class
names alone, so that the track can be read as training labels.
"""

from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.table_formats.text import number, seconds, tab_table


def render(recording: RecordingDetections) -> str:
    """The label track, one row per detection."""
    return tab_table(
        (),
        (
            (seconds(found.onset_s), seconds(found.offset_s), found.label, number(found.confidence, recording))
            for found in recording.detections
        ),
    )
