"""Atomic folders: a new folder is written beside the old one, and one rename exchanges them.

Linux exchanges two names in one step (`renameat2`), macOS too (`renamex_np`). Where the file system cannot (NFS), the
old folder is renamed aside and the new one into its place; a process that is killed between the two leaves a folder
that the next reader or writer puts back (`core.leftovers`). A folder that cannot be renamed (a mount point, the current
folder, one in a folder without write permission) is written inside, and its entries are moved after one rename.
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from birdnet_fs.core.files import naming_path, sync
from birdnet_fs.core.leftovers import (
    GONE,
    NEXT,
    PART,
    REPLACED,
    complete_replacement,
    finish_moving,
    is_temporary,
    remove_leftovers,
    temporary_name,
)
from birdnet_fs.core.stopping import finished_first

_RENAME_EXCHANGE = _RENAME_SWAP = 2  # linux/fs.h; sys/stdio.h of macOS
_AT_FDCWD = -100
Stays = Callable[[str], bool]  # name of an entry of the old folder -> whether it stays in the new one


def none_stays(name: str) -> bool:
    """No entry of the old folder stays."""
    return False


@contextlib.contextmanager
def atomic_folder(path: Path | str, *, stays: Stays = none_stays) -> Iterator[Path]:
    """Context manager for writing one folder atomically.

    A link to a folder stays, and the folder it leads to is replaced; permissions stay those of the old folder.

    Args:
        path: Folder to write; its parent is created when missing.
        stays: Chooses, by name, entries of the old folder that stay beside the new ones; a new entry of the same name
            replaces them. Files that stay are linked, so they take no space and no time. Default: none stays.

    Yields:
        Temporary folder on the same file system. It replaces `path` when the block ends, and is removed on an
        exception.

    Raises:
        OSError: Something cannot be written; `filename` is `path`, which is as it was.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    complete_replacement(target)
    inside = target.is_dir() and _cannot_be_renamed(target)
    place = target if inside else target.parent
    for folder in {place, target}:
        remove_leftovers(folder)
    part = place / temporary_name(PART)
    try:
        with naming_path(path):
            part.mkdir()
            yield part
            with finished_first():
                if inside:
                    _replace_inside(target, part, stays)
                elif target.is_dir():
                    _replace(target, part, stays)
                else:
                    _sync_files(part)
                    os.rename(part, target)
                sync(target.parent)
    finally:
        with finished_first():
            shutil.rmtree(part, ignore_errors=True)


def link_tree(source: Path, target: Path) -> None:
    """Make a second name for a file, or for every file of a folder; copies where the file system has no hard links.

    Args:
        source: File, link or folder; links are copied as links.
        target: The new name; it must not exist.
    """
    if source.is_symlink():
        os.symlink(os.readlink(source), target)
    elif source.is_dir():
        target.mkdir()
        for entry in os.scandir(source):
            if not is_temporary(entry.name):
                link_tree(Path(entry.path), target / entry.name)
        shutil.copystat(source, target)
    elif source.is_file():
        try:
            os.link(source, target)
        except OSError:  # no hard links here, or too many of this file
            shutil.copy2(source, target)


def _replace(folder: Path, part: Path, stays: Stays) -> None:
    """Exchange a folder and its successor, to which the entries that stay are added first, and remove the old one."""
    _sync_files(part)
    for entry in os.scandir(folder):
        if _stays_there(entry.name, stays) and not os.path.lexists(part / entry.name):
            link_tree(Path(entry.path), part / entry.name)
    with contextlib.suppress(OSError):
        shutil.copystat(folder, part)
    old, gone = part, None
    if not _exchange(part, folder):
        gone = folder.parent / temporary_name(GONE)
        gone.mkdir()
        old = gone / folder.name
        try:
            os.rename(folder, old)
            os.rename(part, folder)
        except BaseException:
            if not folder.exists():
                os.rename(old, folder)
            shutil.rmtree(gone, ignore_errors=True)
            raise
    for entry in os.scandir(old):
        if _stays_there(entry.name, stays):
            _move_missing(Path(entry.path), folder / entry.name)
    shutil.rmtree(gone or old, ignore_errors=True)


def _replace_inside(folder: Path, part: Path, stays: Stays) -> None:
    names = [entry.name for entry in os.scandir(folder) if not is_temporary(entry.name)]
    new = set(os.listdir(part))
    replaced = [name for name in names if name in new or not stays(name)]
    (part / REPLACED).write_text(json.dumps(replaced), encoding="utf-8")
    _sync_files(part)
    following = part.with_name(NEXT + part.name.removeprefix(PART))
    os.rename(part, following)
    finish_moving(following)


def _stays_there(name: str, stays: Stays) -> bool:
    return not is_temporary(name) and stays(name)


def _move_missing(old: Path, new: Path) -> None:
    """Move what another process has written into the old folder since it was linked."""
    with contextlib.suppress(OSError):
        if not os.path.lexists(new):
            os.rename(old, new)
        elif old.is_dir() and not old.is_symlink():
            for entry in os.scandir(old):
                _move_missing(Path(entry.path), new / entry.name)


def _sync_files(part: Path) -> None:
    for folder, _, names in os.walk(part):
        for name in names:
            file = Path(folder, name)
            if not file.is_symlink() and os.access(file, os.W_OK):
                sync(file)


def _exchange(one: Path, two: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot."""
    try:
        if sys.platform == "linux":
            renameat2 = ctypes.CDLL(None).renameat2
            return renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(two), _RENAME_EXCHANGE) == 0
        if sys.platform == "darwin":
            return ctypes.CDLL(None).renamex_np(os.fsencode(one), os.fsencode(two), _RENAME_SWAP) == 0
    except (AttributeError, OSError):  # a C library without the function
        pass
    return False


def _cannot_be_renamed(folder: Path) -> bool:
    with contextlib.suppress(OSError):  # the current folder may have been removed
        here = Path(os.path.realpath(os.curdir))
        if folder in (here, *here.parents):  # also that of the user's shell, which would be left in a removed folder
            return True
    return os.path.ismount(folder) or str(folder) in _mount_points() or not os.access(folder.parent, os.W_OK | os.X_OK)


def _mount_points() -> set[str]:
    """Mount points of this process, those of parts of the same file system included, which `ismount` does not see."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return set()
    return {re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), line.split(" ")[4]) for line in lines}
