"""The worker processes of a command: started, replaced when they die, ended with the command.

A worker says READY on its standard output once the work is prepared; the others start then. Its standard input is a
pipe from the command: when that closes, because the command was stopped or is no more, the worker stops.
"""

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from birdnet_fs.plumbing.progress import say

READY = "ready"
STOPPED = 130  # exit status of a worker that was told to stop
KILLED = -9
FAULT = 2  # and of one that said what the person has to change
MOST_REPLACED = 3  # times for each worker
PATIENCE_S = 60.0  # for a worker to stop by itself
LOOK_S = 0.5
_PACKAGES = Path(__file__).resolve().parents[2]


class Crew:
    """Workers of one command; `with` ends them.

    Args:
        command: What a worker runs.
        n: How many.
        threads: Of each for arithmetic.
    """

    def __init__(self, command: Sequence[str], n: int, *, threads: int) -> None:
        self.command, self.n, self.threads = list(command), n, threads
        self.status = 0  # of the command: that of the first worker that went wrong
        self._at_work: dict[int, subprocess.Popen[str]] = {}
        self._n_replaced = 0

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> bool:
        """Start the first worker, and the others when it is ready; False when it found something wrong and ended."""
        first = self._start(0, stdout=subprocess.PIPE)
        if first.stdout is None or first.stdout.readline().strip() != READY:
            self.status = first.wait()
            if self.status < 0:
                say(f"The first worker ended by itself ({_how(self.status)}).")
            self.status = max(1, self.status)
            self._at_work.clear()
            return False
        for place in range(1, self.n):
            self._start(place)
        return True

    def looks(self) -> Iterator[None]:
        """Give a look every half second, as long as there is work; the last when there is none."""
        while self._at_work:
            yield
            time.sleep(LOOK_S)
            for place, worker in list(self._at_work.items()):
                if self._at_work.get(place) is worker and worker.poll() is not None:  # none are left after a fault
                    del self._at_work[place]
                    self._ended(place, worker.returncode)
        yield

    def stop(self) -> None:
        """Tell all to stop, and wait."""
        for worker in self._at_work.values():
            if worker.stdin:
                worker.stdin.close()
        deadline = time.monotonic() + PATIENCE_S
        for worker in self._at_work.values():
            try:
                worker.wait(max(0.1, deadline - time.monotonic()))
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                worker.kill()
                worker.wait()
        self._at_work.clear()

    def _start(self, place: int, stdout: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),  # a checkout that is not installed works as well
            "PYTHONUNBUFFERED": "1",
            **_gpu(place),
        }
        environment.setdefault("OMP_NUM_THREADS", str(self.threads))
        # in a session of its own, so that Ctrl-C reaches the command alone, which then tells the workers
        worker = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=stdout, env=environment, text=True, start_new_session=True
        )
        self._at_work[place] = worker
        return worker

    def _ended(self, place: int, status: int) -> None:
        if status == 0:
            return
        if status in (FAULT, STOPPED) or self._n_replaced >= MOST_REPLACED * self.n:
            self.status = self.status or (status if status > 0 else 1)
            self.stop()
            return
        say(f"A worker ended by itself ({_how(status)}); another takes its place.")
        self._n_replaced += 1
        self._start(place)


def follow_the_command() -> threading.Event:
    """In a worker: stop as by Ctrl-C when the command is no more, or the system asks to end.

    Returns:
        Whether it was told to stop, for between two steps of the work: a KeyboardInterrupt inside a callback from C, as
        those of soundfile, is dropped.
    """
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # a command in the background of a script inherits a deaf SIGINT
        signal.signal(number, signal.default_int_handler)

    def wait() -> None:
        while os.read(0, 1):
            pass
        told.set()
        _thread.interrupt_main()
        time.sleep(PATIENCE_S)
        os._exit(STOPPED)  # it did not come to hear of it

    threading.Thread(target=wait, daemon=True).start()
    return told


def threads_each(n_workers: int) -> int:
    """Threads for each of some workers: the cores that this process may use, shared out."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, available // n_workers)


def worker_command(*arguments: object) -> list[str]:
    """This program again, with other arguments."""
    return [sys.executable, "-m", "birdnet_fs.cli.main", *map(str, arguments)]


def _how(status: int) -> str:
    hint = "; often the memory was full" if status == KILLED else ""
    return f"signal {-status}{hint}" if status < 0 else f"exit status {status}"


def _gpu(place: int) -> dict[str, str]:
    """One of the visible NVIDIA GPUs for each worker, in turn; nothing where there are not several."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    cards = Path("/proc/driver/nvidia/gpus")
    visible = given.split(",") if given is not None else [str(i) for i, _ in enumerate(cards.glob("*"))]
    return {"CUDA_VISIBLE_DEVICES": visible[place % len(visible)]} if len(visible) > 1 else {}
