"""Functions that worker processes of a pool run; a new process imports this module."""

import os
import signal
import threading
import time
from pathlib import Path

from birdnet_fs.core.errors import UserError
from birdnet_fs.tuning.worker_pool import WorkerPool


def mark(folder: Path) -> int:
    """Write a file for this process; return the number of such files."""
    (folder / str(os.getpid())).touch()
    return len(list(folder.iterdir()))


def sleep_a_minute() -> None:
    """Sleep in short parts: a signal that arrives just before a sleep begins does not end it."""
    for _ in range(1200):
        time.sleep(0.05)


def do_nothing(folder: Path, stop: threading.Event) -> None:
    mark(folder)


def die(folder: Path, stop: threading.Event) -> None:
    mark(folder)
    os.kill(os.getpid(), signal.SIGKILL)


def second_fails(folder: Path, stop: threading.Event) -> None:
    if mark(folder) == 2:
        raise UserError("The disk is too small.")
    sleep_a_minute()


def wait_for_stop(folder: Path, stop: threading.Event) -> None:
    """A process that drops KeyboardInterrupt, as callbacks from C do."""
    try:
        mark(folder)
        sleep_a_minute()
    except KeyboardInterrupt:
        assert stop.is_set()
        (folder / f"stopped{os.getpid()}").touch()
        raise


def pool(target, folder: Path, n_workers: int) -> WorkerPool:
    return WorkerPool(target, (folder,), n_workers, n_threads=1)
