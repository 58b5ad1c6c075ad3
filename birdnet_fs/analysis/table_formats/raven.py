"""Raven selection table with the columns of BirdNET-Analyzer; without detections it has the header only."""

from birdnet_fs.analysis.detections import Detection, RecordingDetections
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


def render(recording: RecordingDetections) -> str:
    """The table; Species Code is the whole class name, as BirdNET-Analyzer writes it for classes without a code."""
    return tab_table(
        HEADER,
        (
            (
                *selection(number, found, recording),
                split_label(found.label)[1],
                found.label,
                f"{found.confidence:.4f}",
                full_path(recording.path),
                seconds(found.onset_s),
            )
            for number, found in enumerate(recording.detections, 1)
        ),
    )


def selection(number: int, found: Detection, recording: RecordingDetections) -> tuple[int | str, ...]:
    """The first seven cells of a row, which ANIMAL-SPOT's table has as well.

    Args:
        number: Number of the selection, 1 or more.
        found: The detection.
        recording: Its recording.

    Returns:
        Selection, view, channel, begin and end in seconds, lowest and highest frequency in Hz.
    """
    times, limits = (found.onset_s, found.offset_s), (recording.low_hz, recording.high_hz)
    return (number, "Spectrogram 1", 1, *map(seconds, times), *(f"{limit:g}" for limit in limits))
