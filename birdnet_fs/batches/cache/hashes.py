"""Content hashes of recordings, by which cached clips are found.

The content decides, not name or time: a recording that was moved, copied or touched is found again, and one with other
bytes is another recording even if its size and modification time are the same (`touch -r`, copies that keep times, two
changes within the resolution of the clock). A hash is kept and used again only while size, modification time, time of
the last status change (which no program can set) and inode are the same, and only if both times were at least RACY_S
before the file was read; otherwise the file is read again. Hashes are kept in one file per folder of recordings.
"""

import contextlib
import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from birdnet_fs.batches.cache.parallel import in_order
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256, write_text
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.progress import track

HASHES = "hashes"  # folder in the cache folder
RACY_S = 2.0  # resolution of modification times on FAT, the coarsest
MAX_BYTES = 200_000_000  # of the file of one folder of recordings, a million names
State = tuple[int, int, int, int]  # size, modification and status change in ns, inode


def file_state(path: str) -> State | None:
    """Size, times and inode of a file, links followed; None when it cannot be looked at."""
    try:
        about = os.stat(path)
    except (OSError, ValueError):
        return None
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino


def content_hashes(paths: Iterable[str], cache: Path) -> dict[str, tuple[str, State]]:
    """Compute the content hash of each file, or take the kept one.

    Args:
        paths: Files.
        cache: Cache folder, in which hashes are kept; that this fails is no error.

    Returns:
        Path -> SHA-256 of the content and the state of the file before it was read; files that cannot be read are
        left out.
    """
    by_folder: dict[str, list[str]] = defaultdict(list)
    for path in dict.fromkeys(paths):
        by_folder[os.path.dirname(os.path.abspath(path))].append(path)
    kept = {folder: _read(_file(cache, folder), folder) for folder in by_folder}
    found: dict[str, tuple[str, State]] = {}
    unknown: list[str] = []
    for folder, own in by_folder.items():
        for path in own:
            state = file_state(path)
            row = kept[folder].get(os.path.basename(path))
            if state is not None and row is not None and tuple(row[:4]) == state:
                found[path] = row[4], state
            elif state is not None:
                unknown.append(path)
    if not unknown:
        return found
    changed = set[str]()
    jobs = [(path, lambda path=path: _hashed(path)) for path in unknown]
    for path, row in track(in_order(jobs), "comparing recordings with the cache", total=len(jobs), unit="recording"):
        if row is None:
            continue
        state, digest, sure = row
        found[path] = digest, state
        if sure:
            folder = os.path.dirname(os.path.abspath(path))
            kept[folder][os.path.basename(path)] = [*state, digest]
            changed.add(folder)
    for folder in changed:
        with contextlib.suppress(OSError, UserError):  # a read-only or full disk: the files are read again next time
            text = json.dumps({"folder": folder, "files": kept[folder]}, separators=(",", ":"))
            write_text(_file(cache, folder), text + "\n")
    return found


def _hashed(path: str) -> tuple[State, str, bool] | None:
    """State, content hash, and whether a later change of the file would change its state; None = unreadable."""
    state, now = file_state(path), time.time_ns()
    if state is None or not os.path.isfile(path):  # a named pipe would wait forever
        return None
    try:
        digest = sha256(path)
    except OSError:
        return None
    if file_state(path) != state:
        return None  # it is being written
    return state, digest, max(state[1], state[2]) < now - RACY_S * 1e9


def _file(cache: Path, folder: str) -> Path:
    return cache / HASHES / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]}.json"


def _read(file: Path, folder: str) -> dict[str, Sequence[Any]]:
    """Name -> [size, times, inode, hash] of the files of a folder; {} when there is no readable file of it."""
    try:
        found = read_json(file, "delete it", max_bytes=MAX_BYTES)
        if found["folder"] != folder:
            return {}
        return {
            name: row
            for name, row in found["files"].items()
            if len(row) == 5 and isinstance(row[4], str) and len(row[4]) == 64
        }
    except (UserError, KeyError, TypeError, AttributeError):
        return {}
