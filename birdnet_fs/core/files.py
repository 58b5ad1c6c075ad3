"""Atomic files: written to a temporary file in the same folder, flushed to disk, then renamed.

A crash, a full disk or an interrupt leaves the previous file unchanged, since `os.replace` is atomic within one folder
on POSIX and Windows.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from birdnet_fs.core.errors import UserError


def check_output(folder: Path | str) -> None:
    """Check, before any computation, that an output folder exists or can be created.

    Args:
        folder: Output folder; it is not created here.

    Raises:
        UserError: The path or one of its parents is a file, or writing is not permitted.
    """
    folder = Path(os.path.abspath(folder))
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise UserError(f"An output folder was expected; {there} is a file. Give another folder with -o.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"There is no permission to write in {there}; give another folder with -o.")


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Context manager for writing one file atomically.

    Args:
        path: File to write; its folder is created when missing.

    Yields:
        Temporary path in the same folder. It replaces `path` when the block ends, and is removed on an exception.

    Raises:
        UserError: `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"An output file was expected; {path} is a folder. Give the name of a file in it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".part-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(part, 0o666 & ~_umask())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Context manager for writing one folder atomically.

    Args:
        path: Folder to write; its parent is created when missing.

    Yields:
        Temporary folder beside `path`. It replaces `path` when the block ends, and is removed on an exception.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".part-{path.name[:40]}-", dir=path.parent))
    os.chmod(part, 0o777 & ~_umask())
    try:
        yield part
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=".gone-", dir=path.parent))
            os.replace(path, old / "folder")
            os.replace(part, path)
            shutil.rmtree(old)
        else:
            os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
