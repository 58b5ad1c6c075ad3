"""The CSV of BirdNET-Analyzer."""

from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.table_formats.text import comma_table, number, recording_path, seconds, split_label

HEADER = ("Start (s)", "End (s)", "Scientific name", "Common name", "Confidence", "File")


def render(recording: RecordingDetections) -> str:
    """The table, one row per detection."""
    return comma_table(
        HEADER,
        (
            (
                seconds(found.onset_s),
                seconds(found.offset_s),
                *split_label(found.label),
                number(found.confidence, recording),
                recording_path(recording),
            )
            for found in recording.detections
        ),
    )
