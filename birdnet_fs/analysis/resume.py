"""Stamps of finished recordings, so that an interrupted or repeated analysis only does what is missing.

A stamp is one small JSON file in `<output>/.done`, written after the tables of a recording. It is valid while the
recording (size and modification time), the model and all settings that affect a table are the same and the tables
exist. The content of the tables is not compared, because people correct them by hand.
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
    """The outcome of a recording: its row of the ledger and the number of detections."""

    status: str
    reason: str
    flags: tuple[str, ...]
    duration_s: float
    n_detections: int


def stamp_path(output: Path, relative: Path) -> Path:
    """Path of the stamp of a recording; the name is a hash, because recordings may have long or non-UTF-8 names."""
    return output / ".done" / (hashlib.sha256(os.fsencode(relative)).hexdigest()[:32] + ".json")


def stamp_key(recording: Path, settings: Mapping[str, Any]) -> str:
    """Hash of the settings and of the recording's size and modification time; a stamp is valid for one key."""
    about = recording.stat()
    text = json.dumps({**settings, "size": about.st_size, "mtime_ns": about.st_mtime_ns}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_stamp(path: Path, key: str, tables: list[Path]) -> Stamp | None:
    """Read the stamp of a recording.

    Args:
        path: The stamp, existing or not.
        key: The present key, from `stamp_key`.
        tables: Tables of the recording.

    Returns:
        The stamp; None when it is missing, damaged or not valid, so that the recording must be analyzed.
    """
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
        return None  # missing or damaged: analyzing a recording again is always correct


def write_stamp(path: Path, key: str, stamp: Stamp) -> None:
    """Write the stamp of a recording after its tables.

    Args:
        path: File of the stamp, from `stamp_path`.
        key: Key from `stamp_key`.
        stamp: The outcome of the recording.
    """
    write_json(path, {"key": key, **vars(stamp)})
