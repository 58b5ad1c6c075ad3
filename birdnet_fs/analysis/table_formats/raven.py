"""Raven selection table with the columns of BirdNET-Analyzer; without detections it has the header only."""

from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.table_formats.text import full_path, seconds, tab_table
from birdnet_fs.core.class_names import scientific_and_common

HEADER = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Common Name",
    "Species Code",
    "Confidence",
    "Begin Path",
    "File Offset (s)",
)


def render(recording: RecordingDetections) -> str:
    """The table; Species Code is the whole class name, as BirdNET-Analyzer writes it for classes without a code."""
    return tab_table(
        HEADER,
        (
            (
                number,
                "Spectrogram 1",
                1,
                seconds(found.onset_s),
                seconds(found.offset_s),
                f"{recording.low_hz:g}",
                f"{recording.high_hz:g}",
                scientific_and_common(found.label)[1],
                found.label,
                f"{found.confidence:.4f}",
                full_path(recording.path),
                seconds(found.onset_s),
            )
            for number, found in enumerate(recording.detections, 1)
        ),
    )
