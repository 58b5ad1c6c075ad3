"""Detections of a finished recording with full precision, one JSON file beside its stamp.

Tables of other formats and the tables over all recordings are made of them without scoring again. The stamp holds the
SHA-256 of the file as of any other table, so that one that was changed or left behind is not used.
"""

import json
from pathlib import Path

from birdnet_fs.analysis.detections import Detection, RecordingDetections

SUFFIX = ".detections"
_FORMAT = 1


def render_stored(recording: RecordingDetections) -> str:
    """The detections as text, without path and style, which the stamp and the call give."""
    rows = [[each.onset_s, each.offset_s, each.label, each.confidence] for each in recording.detections]
    about = {
        "format": _FORMAT,
        "low_hz": recording.low_hz,
        "high_hz": recording.high_hz,
        "window_s": recording.window_s,
        "hop_s": recording.hop_s,
        "n_windows": recording.n_windows,
        **({"log": recording.log} if recording.log else {}),
        "detections": rows,
    }
    return json.dumps(about, allow_nan=False) + "\n"


def read_stored(file: Path, path: Path, root: Path) -> RecordingDetections | None:
    """Read the detections of a recording.

    Args:
        file: File written with the text of `render_stored`.
        path: The recording.
        root: Input folder that the recording is in, at any depth.

    Returns:
        The detections; None where the file is missing, damaged or of another version.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["format"] != _FORMAT:
            return None
        detections = tuple(
            Detection(float(a), float(b), str(label), float(p)) for a, b, label, p in found["detections"]
        )
        low, high, window, hop = (float(found[key]) for key in ("low_hz", "high_hz", "window_s", "hop_s"))
        n, log = int(found["n_windows"]), str(found.get("log", ""))
        return RecordingDetections(path, root, low, high, detections, window, hop, n, log)
    except (OSError, ValueError, KeyError, TypeError):
        return None
