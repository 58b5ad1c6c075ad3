"""What a batch remembers of each finished recording, so that a second run does only what is missing.

A stamp is one small JSON file in `<output>/.done`, written after the recording's tables. It fits when the
recording (size and time of change), the model and every setting that shapes a table are the same and the
tables are still there; their content is not looked at, people correct them by hand.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdnet_fs.core.files import write_json


@dataclass(frozen=True)
class Stamp:
    """What became of a recording: its line in the ledger and how many detections were written."""

    status: str
    reason: str
    flags: tuple[str, ...]
    duration_s: float
    n_detections: int


def stamp_path(output: Path, relative: Path) -> Path:
    """Where the stamp of a recording lies; named by a hash, for file names can be too long or no UTF-8."""
    return output / ".done" / (hashlib.sha256(os.fsencode(relative)).hexdigest()[:32] + ".json")


def fingerprint(recording: Path, settings: Mapping[str, Any]) -> str:
    """A hash of the recording's size and time of change, and of the settings."""
    about = recording.stat()
    text = json.dumps({**settings, "size": about.st_size, "mtime_ns": about.st_mtime_ns}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_stamp(path: Path, key: str, tables: list[Path]) -> Stamp | None:
    """The stamp when it fits, None when the recording has to be done (again)."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["key"] != key or not all(table.is_file() for table in tables):
            return None
        return Stamp(
            str(found["status"]),
            str(found["reason"]),
            tuple(map(str, found["flags"])),
            float(found["duration_s"]),
            int(found["n_detections"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: doing a recording again is always right


def write_stamp(path: Path, key: str, stamp: Stamp) -> None:
    """Write the stamp, after the tables."""
    write_json(path, {"key": key, **vars(stamp)})
