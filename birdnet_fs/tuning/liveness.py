"""Detection of processes that ended: each regularly touches a file, in a folder that several machines may share.

Optuna has heartbeats for `RDBStorage` only (`optuna.storages.fail_stale_trials` does nothing with a `JournalStorage`).
The age of a file is measured with the clock of the file system, since clocks of two machines need not agree.
"""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from optuna.storages.journal import JournalFileOpenLock

from birdnet_fs.core.files import write_json
from birdnet_fs.core.processes import has_ended, machine

GRACE_S = 120.0  # an NFS client may show a file's time up to 60 s late (acregmax)
TOUCHES_PER_GRACE = 12


def claim(path: Path) -> None:
    """Write a file that names this process as its owner, for `last_touched`."""
    write_json(path, {"machine": machine(), "pid": os.getpid()})


@contextlib.contextmanager
def kept_touched(path: Path, grace_s: float = GRACE_S) -> Iterator[None]:
    """Touch a file regularly from a thread while the block runs.

    Args:
        path: The file; it may be removed meanwhile.
        grace_s: Seconds without a touch after which other processes consider this one gone. It is touched twelve times
            as often. Default: 120.

    Yields:
        Nothing.
    """
    end = threading.Event()

    def touch() -> None:
        while not end.wait(grace_s / TOUCHES_PER_GRACE):
            # when a full or absent disk does not come back in time, the process is considered gone
            with contextlib.suppress(OSError):
                os.utime(path)

    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[float]:
    """Run the block in one process at a time, and wait until no other process is in it.

    When a process is killed inside the block, others wait for GRACE_S seconds.

    Args:
        path: The lock is the file `PATH.lock`.

    Yields:
        Present time of the file system in seconds, comparable with `last_touched`.
    """
    lock, file = JournalFileOpenLock(str(path), grace_period=int(GRACE_S)), Path(f"{path}.lock")
    lock.acquire()
    try:
        with kept_touched(file):
            yield file.stat().st_mtime
    finally:
        with contextlib.suppress(RuntimeError):  # another process has considered this one gone
            lock.release()


def last_touched(path: Path) -> float:
    """Return when the owner of a claimed file last touched it.

    Args:
        path: File written by `claim`.

    Returns:
        Time of the file system in seconds; 0 when there is no file, or when its owner was a process of this machine
        that has ended.
    """
    try:
        owner, touched_s = json.loads(path.read_text(encoding="utf-8")), path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    if owner["machine"] == machine() and has_ended(int(owner["pid"]), 0):
        return 0.0
    return touched_s
