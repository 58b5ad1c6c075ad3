"""Raven selection table with the columns of BirdNET-Analyzer; without detections it has the header only."""

from birdnet_fs.analysis.detections import Detection, RecordingDetections
from birdnet_fs.analysis.table_formats.text import number, recording_path, seconds, split_label, tab_table

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
                *selection(row, found, recording),
                split_label(found.label)[1],
                found.label,
                number(found.confidence, recording),
                recording_path(recording),
                seconds(found.onset_s),
            )
            for row, found in enumerate(recording.detections, 1)
        ),
    )


def selection(row: int, found: Detection, recording: RecordingDetections) -> tuple[int | str, ...]:
    """The first seven cells of a row, which ANIMAL-SPOT's table has as well.

    Args:
        row: Number of the selection, 1 or more.
        found: The detection.
        recording: Recording of the detection.

    Returns:
        Selection, view, channel, begin and end in seconds, lowest and highest frequency in Hz.
    """
    times, limits = (found.onset_s, found.offset_s), (recording.low_hz, recording.high_hz)
    return (row, "Spectrogram 1", 1, *map(seconds, times), *(f"{limit:g}" for limit in limits))
