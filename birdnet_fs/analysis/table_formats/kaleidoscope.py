"""The CSV of Kaleidoscope: folder, file, offset and duration in seconds, best match and its distance."""

from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.table_formats.text import comma_table, number, seconds
from birdnet_fs.core.text import escaped

HEADER = ("INDIR", "FOLDER", "IN FILE", "OFFSET", "DURATION", "TOP1MATCH", "TOP1DIST")


def render(recording: RecordingDetections) -> str:
    """The table; TOP1DIST is a distance, so it is 1 - confidence."""
    folder = recording.path.parent.relative_to(recording.root)
    return comma_table(
        HEADER,
        (
            (
                "." if recording.style.relative_paths else escaped(recording.root),
                "" if str(folder) == "." else folder,
                recording.path.name,
                seconds(found.onset_s),
                seconds(found.offset_s - found.onset_s),
                found.label,
                number(1 - found.confidence, recording),
            )
            for found in recording.detections
        ),
    )
