"""One process at a time writes a folder: a lock that ends with the process that holds it, however that ends.

The lock of `runs/a` is the file `runs/.a.lock`, beside the folder, because a folder may be replaced as a whole; where
only the folder itself can be written, it is `.lock` inside. The operating system keeps the lock (`flock` on POSIX,
`locking` on Windows) and drops it when the process ends, so that nothing has to be cleaned up after `kill -9`: a lock
file that is left behind is not a lock. The file holds the text that the second process shows.

On NFS, Linux and macOS turn `flock` into a lock of the server, which holds across machines, unless the share is mounted
with `local_lock=all` or `nolock`: then it holds on one machine only. On a file system without locks the work goes on,
after a line on stderr. Two users are excluded only if both may write beside the folder, or both may not.

A file that several processes read and one may remove has a shared lock instead (`mark_in_use`, `is_in_use`).

The package filelock is not used: it empties the file on opening in some versions, so that the second process could not
name the first, and falls back to lock files that survive their process where `flock` is missing.
"""

import contextlib
import errno
import functools
import hashlib
import inspect
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from birdnet_fs.core.distributed import group
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output, no_room
from birdnet_fs.core.leftovers import FOREIGN_AGE_S
from birdnet_fs.core.processes import has_ended
from birdnet_fs.core.progress import say
from birdnet_fs.core.stopping import finished_first
from birdnet_fs.core.text import escaped

_LONGEST_NAME = 200  # bytes of a folder's name in the name of its lock file; file systems allow 255
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
_LOCKED_BYTE = 1 << 30  # Windows refuses reading a locked byte: the text before it can be read
POLL_S = 0.5

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class _Held:
    """A lock of this process: its open file (-1 on a file system without locks) and how many blocks are inside."""

    file: Path
    descriptor: int
    n_blocks: int = 1


_held: dict[str, _Held] = {}
_guard = threading.RLock()


@contextlib.contextmanager
def folder_lock(folder: Path | str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, or of one file, while a block writes it.

    A process that holds the lock already enters at once, in any thread. Of a group of processes that train one network,
    the main one holds it for all.

    Args:
        folder: Folder or file; it need not exist. Missing parents are created, and removed if they stay empty.
        wait: Whether to wait for another process, after a line about the wait. Default: False, refuse at once.

    Yields:
        Nothing.

    Raises:
        UserError: Another process holds the lock, or nothing can be written there.
    """
    if not group.is_main():
        yield
        return
    place = Path(os.path.realpath(folder))
    made: list[Path] = []
    waiting = False
    while (holder := _enter(place, made)) is not None:
        sentence = f"{escaped(folder)} is being written by another process ({holder})"
        if not wait:
            raise UserError(f"{sentence}; wait until it ends, or give another folder.")
        if not waiting:
            say(f"{sentence}; waiting for it ...")
        waiting = True
        time.sleep(POLL_S)
    try:
        yield
    finally:
        with finished_first():
            _leave(place)
            for parent in reversed(made):
                with contextlib.suppress(OSError):
                    parent.rmdir()


def refuse_second_writer(folder: Path | str) -> None:
    """Refuse a folder whose lock another process holds, before its own work is prepared; nothing is held afterwards.

    Args:
        folder: Folder or file; it need not exist.

    Raises:
        UserError: Another process holds the lock, or nothing can be written there.
    """
    with folder_lock(folder):
        pass


def holder(folder: Path | str) -> str | None:
    """Return the process that holds the lock of a folder, without taking the lock.

    Args:
        folder: Folder or file; it need not exist.

    Returns:
        Command, process, machine and time as text; None when nobody writes the folder.
    """
    place = Path(os.path.realpath(folder))
    for file in (place.parent / f".{_lock_name(place)}", place / ".lock"):
        try:
            with open(file, "rb") as opened:
                about = json.loads(opened.read(4096) or b"{}")
                here = about.get("host") == platform.node()
                if has_ended(int(about["pid"]), 0) if here else _is_free(opened.fileno()):
                    continue
                return _described(about)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return None


def locked(*names: str, wait: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator of a function that writes a folder: it holds the lock of the folder.

    Args:
        *names: Arguments of the function; the folder is the first of them that is given. Without any, nothing is
            locked.
        wait: Whether to wait for another process that holds the lock, instead of an error. Default: False.

    Returns:
        The decorator.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs).arguments
            folder = next((given[name] for name in names if given.get(name) is not None), None)
            with folder_lock(folder, wait=wait) if folder is not None else contextlib.nullcontext():
                return function(*args, **kwargs)

        return call

    return decorate


def mark_in_use(descriptor: int) -> None:
    """Mark an open file as in use until it is closed here and in all processes that inherit it (a shared lock).

    Without effect on Windows, which keeps open files itself, and on a file system without locks.

    Args:
        descriptor: Descriptor of the open file.
    """
    if sys.platform != "win32":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def is_in_use(file: Path) -> bool:
    """Whether a process has marked a file with `mark_in_use`.

    Args:
        file: The file.

    Returns:
        False for a missing file. On a file system without locks True until the file has not changed for a week; on
        Windows False, since a file that is open there cannot be removed.
    """
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError as error:
        return error.errno not in _NO_LOCKS or time.time() - os.fstat(descriptor).st_mtime < FOREIGN_AGE_S
    finally:
        os.close(descriptor)


def _enter(place: Path, made: list[Path]) -> str | None:
    """Take the lock; returns the holder when it is another process."""
    with _guard:
        held = _held.get(str(place))
        if held:
            held.n_blocks += 1
            return None
        while True:
            file, descriptor = _open(place, made)
            try:
                _lock(descriptor)
                if _is_file(descriptor, file):
                    break
                os.close(descriptor)  # the last holder has removed it: lock the next one
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    os.close(descriptor)
                    file.unlink(missing_ok=True)
                    say(f"The file system of {escaped(place)} has no locks: let no other process write there.")
                    _held[str(place)] = _Held(file, -1)
                    return None
                holder = _holder(descriptor)
                os.close(descriptor)
                return holder
        os.ftruncate(descriptor, 0)
        now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        about = {"pid": os.getpid(), "host": platform.node(), "since": now, "command": _command()}
        with contextlib.suppress(OSError):  # on a full disk the lock holds too; only its holder is not named
            os.write(descriptor, json.dumps(about).encode())
        _held[str(place)] = _Held(file, descriptor)
        return None


def _leave(place: Path) -> None:
    with _guard:
        held = _held.get(str(place))
        if held is None:  # a forked process, which does not hold the locks of its parent
            return
        held.n_blocks -= 1
        if held.n_blocks:
            return
        del _held[str(place)]
        if held.descriptor < 0:
            return
        if os.name == "posix":  # removed while it is locked: who opened it before finds that it is gone
            held.file.unlink(missing_ok=True)
        os.close(held.descriptor)
        if os.name != "posix":
            with contextlib.suppress(OSError):
                held.file.unlink(missing_ok=True)


def _open(place: Path, made: list[Path]) -> tuple[Path, int]:
    beside = place.parent / f".{_lock_name(place)}"
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    while True:
        try:
            _make(place.parent, made)
            return beside, os.open(beside, flags, 0o666)
        except FileNotFoundError:
            continue  # a process that made the parent has just removed it
        except OSError as error:
            if error.errno in _NOT_WRITABLE and place.is_dir() and os.access(place, os.W_OK | os.X_OK):
                return place / ".lock", os.open(place / ".lock", flags, 0o666)
            check_output(place.parent)
            if no_room(error):
                error.filename = str(place)
            raise


def _lock_name(place: Path) -> str:
    """Name of the lock file beside a folder, without the dot in front."""
    name = place.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f"{name}.lock"


def _make(folder: Path, made: list[Path]) -> None:
    missing = [folder, *folder.parents]
    for parent in reversed(missing[: next((i for i, p in enumerate(missing) if p.is_dir()), 0)]):
        with contextlib.suppress(FileExistsError):
            parent.mkdir()
            made.append(parent)


def _lock(descriptor: int) -> None:
    """Lock an open file without waiting; OSError when another process has it."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_file(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return _described(json.loads(os.read(descriptor, 4096)))
    except (OSError, ValueError, KeyError, TypeError):
        return "it has just started"


def _described(about: Mapping[str, object]) -> str:
    return escaped(f"{about['command']}, process {about['pid']} on {about['host']}, since {about['since']}")


def _is_free(descriptor: int) -> bool:
    """Whether no process of any machine holds the lock of an open file; never asked on Windows."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def _command() -> str:
    """The program and its verb, without the other arguments, which may be long."""
    return " ".join([Path(sys.argv[0] or "python").name, *sys.argv[1:2]])[:60]


def _drop_in_child() -> None:
    """Close, in a forked process, the files of the locks of its parent, so that they end with the parent."""
    global _guard
    _guard = threading.RLock()
    for held in _held.values():
        if held.descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(held.descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_in_child)
