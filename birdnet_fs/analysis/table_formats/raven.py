"""Raven selection table in BirdNET-Analyzer's columns; a recording without detections gives the header alone."""

from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.table_formats.text import full_path, seconds, split_label, tab_table

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


def render(scored: RecordingDetections) -> str:
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
                f"{scored.low_hz:g}",
                f"{scored.high_hz:g}",
                split_label(found.label)[1],
                found.label,
                f"{found.confidence:.4f}",
                full_path(scored.path),
                seconds(found.onset_s),
            )
            for number, found in enumerate(scored.detections, 1)
        ),
    )
