"""Atomic files: written to a temporary file in the same folder, flushed to disk, then renamed.

A crash, a full disk or an interrupt leaves the previous file unchanged, since `os.replace` is atomic within one folder
on POSIX and Windows. Folders are written the same way (`core.folders`).
"""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.leftovers import PART, complete_replacement, is_temporary, remove_leftovers, temporary_name
from birdnet_fs.core.stopping import finished_first
from birdnet_fs.core.text import escaped

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_searched: set[Path] = set()  # folders that `atomic_path` has searched for left-overs; a folder may hold 1e6 files


def check_output(folder: Path | str) -> None:
    """Check, before any computation, that an output folder exists or can be created.

    What killed processes left in it or beside it is removed, and a replacement of it is completed.

    Args:
        folder: Output folder; it is not created here.

    Raises:
        UserError: The path or one of its parents is a file, or writing is not permitted.
    """
    folder = Path(os.path.abspath(folder))
    complete_replacement(folder)
    for place in (folder, folder.parent):
        remove_leftovers(place)
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise UserError(f"An output folder was expected; {there} is a file. Give another folder with -o.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"There is no permission to write in {there}; give another folder with -o.")


def refuse_link(path: Path, folder: Path, remedy: str) -> None:
    """Refuse a part of a folder that is a link to a place outside of the folder; links inside it are followed.

    A folder from somebody else must not decide which other files of this machine are read or written.

    Args:
        path: The part, which may not exist yet.
        folder: The folder.
        remedy: Clause for the end of the message, as "give another folder with -o".

    Raises:
        UserError: `path` leads to another place.
    """
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise UserError(f"{escaped(path)} is a link to a place outside of {escaped(folder)}; {remedy}.")


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Context manager for writing one file atomically.

    Args:
        path: File to write; its folder is created when missing.

    Yields:
        Temporary path in the same folder. It replaces `path` when the block ends, and is removed on an exception.

    Raises:
        UserError: `path` is a folder.
        OSError: The file cannot be written; `filename` is `path`.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"An output file was expected; {path} is a folder. Give the name of a file in it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _searched:
        remove_leftovers(path.parent)
        _searched.add(path.parent)
    part = path.parent / temporary_name(PART, path.suffix)
    try:
        with naming_path(path):
            part.touch(exist_ok=False)
            yield part
            sync(part)
            os.replace(part, path)
    finally:
        with finished_first():
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def naming_path(path: Path | str) -> Iterator[None]:
    """Let every OSError of the block name the file or folder that the user asked for.

    Errors of a full disk have no name, or that of a temporary file; those of NumPy have no number either.

    Args:
        path: File or folder that is being written.

    Yields:
        Nothing.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None and re.search(r"requested and \d+ written", str(error)):  # numpy's tofile and save
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path)) from error
        named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        if error.errno is not None and (not named or any(map(is_temporary, Path(named).parts))):
            error.filename, error.filename2 = os.fspath(path), None
        raise


def describe_os_error(error: OSError) -> str:
    """Say in one sentence which file or folder an error of the system concerns and, without room, what to do.

    Args:
        error: The error.

    Returns:
        Reason, path and advice, as far as they are known.
    """
    reason = error.strerror or str(error) or type(error).__name__
    where = f": {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes) else ""
    advice = "; free disk space or choose another folder, then give the same command again" if no_room(error) else ""
    return f"{reason}{where}{advice}"


def no_room(error: OSError) -> bool:
    """Whether an error means that a disk, a quota or the permitted size of a file is exhausted."""
    return error.errno in _NO_ROOM


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk; ignored where a folder cannot be opened."""
    if path.is_dir():
        with contextlib.suppress(OSError):
            _sync(path, os.O_RDONLY)
    else:
        _sync(path, os.O_RDWR)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically, with Unix line ends."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically, indented, with keys in the given order; NaN and infinity raise ValueError."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(path: Path | str) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
