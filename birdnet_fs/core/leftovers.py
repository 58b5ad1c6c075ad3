"""Temporary names that state their process, and what is done with them after that process was killed.

    .part-*   a file or folder that is being written; removed
    .gone-*   holds a folder that is being replaced, under its own name; put back when its place is empty, else removed
    .next-*   in a folder: entries that are whole and are being moved into it; moved to the end

The name holds the machine, the number and the start of the process, so that nothing of a living process is touched.
What another machine wrote, or this one before its last start, is only touched when it has not changed for a week.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from pathlib import Path

from birdnet_fs.core.processes import has_ended, machine, start_time

PART, GONE, NEXT = ".part-", ".gone-", ".next-"
REPLACED = ".replaced.json"  # in a `.next-*` folder: names that the new entries replace
FOREIGN_AGE_S = 7 * 24 * 3600
_OWNED = re.compile(r"\.(?:part|gone|next)-([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}")
_MAX_SUFFIX = 16  # characters; a name has 255 bytes


def temporary_name(kind: str, suffix: str = "") -> str:
    """Make a new name of a temporary file or folder of this process.

    Args:
        kind: PART, GONE or NEXT.
        suffix: File suffix to keep, with its dot; a long one is left out. Default: none.

    Returns:
        The name.
    """
    pid = os.getpid()
    name = f"{kind}{machine()}-{pid}-{start_time(pid)}-{secrets.token_hex(4)}"
    return name + (suffix if len(suffix) <= _MAX_SUFFIX else "")


def is_temporary(name: str) -> bool:
    """Whether a name is one of a temporary file or folder, of any process and version."""
    return name.startswith((PART, GONE, NEXT))


def remove_leftovers(folder: Path | str, *, recursive: bool = False) -> None:
    """Remove or complete what ended processes left in a folder; errors of the file system are ignored.

    Args:
        folder: The folder, which may not exist.
        recursive: Whether folders in it are searched as well; links are not followed. Default: False.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            path = Path(entry.path)
            if is_temporary(entry.name):
                if _abandoned(path):
                    _settle(path)
            elif recursive and entry.is_dir(follow_symlinks=False):
                remove_leftovers(path, recursive=True)


def complete_replacement(folder: Path | str) -> None:
    """Before a folder is read: complete a replacement of it during which a process of this machine was killed.

    Args:
        folder: The folder; it may not exist, or not be writable, which changes nothing.
    """
    folder = Path(os.path.abspath(folder))
    with contextlib.suppress(OSError):
        if not os.path.lexists(folder):
            for gone in folder.parent.glob(f"{GONE}*"):
                if os.path.lexists(gone / folder.name) and _owner_ended(gone.name):
                    _settle(gone)
        elif folder.is_dir():
            for following in folder.glob(f"{NEXT}*"):
                if _owner_ended(following.name):
                    finish_moving(following)


def finish_moving(following: Path) -> None:
    """Move the entries of a `.next-*` folder into the folder that holds it; called again after a kill, it goes on.

    Everything that is replaced is removed first, so that a reader finds an incomplete folder rather than a mixture.

    Args:
        following: The `.next-*` folder.
    """
    folder, names = following.parent, os.listdir(following)
    if REPLACED in names:
        for name in json.loads((following / REPLACED).read_text(encoding="utf-8")):
            if isinstance(name, str) and name == os.path.basename(name) and name not in ("", ".", ".."):
                remove(folder / name)
        (following / REPLACED).unlink()
        names.remove(REPLACED)
    for name in names:
        os.rename(following / name, folder / name)
    following.rmdir()


def remove(path: Path) -> None:
    """Remove a file, link or folder that may not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _settle(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.name.startswith(NEXT):
            finish_moving(path)
        elif path.name.startswith(GONE) and path.is_dir():
            for old in list(os.scandir(path)):
                if not os.path.lexists(path.parent / old.name):
                    os.rename(old.path, path.parent / old.name)
            shutil.rmtree(path)
        else:
            remove(path)


def _owner_ended(name: str) -> bool:
    """Whether a process of this machine made the name and has ended."""
    owner = _OWNED.match(name)
    return owner is not None and owner[1] == machine() and has_ended(int(owner[2]), int(owner[3]))


def _abandoned(path: Path) -> bool:
    owner = _OWNED.match(path.name)
    if owner is not None and owner[1] == machine():
        return has_ended(int(owner[2]), int(owner[3]))
    newest = max((entry.lstat().st_mtime for entry in (path, *path.rglob("*"))), default=time.time())
    return time.time() - newest > FOREIGN_AGE_S
