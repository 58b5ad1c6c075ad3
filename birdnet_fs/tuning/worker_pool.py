"""Worker processes of one command: started with it, replaced when they are killed, stopped with it.

The pools of the standard library cannot do this: when one process is killed, `concurrent.futures.ProcessPoolExecutor`
ends all of them (`BrokenProcessPool`), and `multiprocessing.Pool` waits for its result forever.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.installation.resources import n_cpus
from birdnet_fs.core.progress import say

FAULT, STOPPED, KILLED = 2, 130, -9  # exit codes
MAX_RESTARTS = 3  # per worker
STOP_TIMEOUT_S = 60.0
POLL_S = 0.5


class WorkerPool:
    """Processes that all run one function, started and stopped by the `with` block.

    Args:
        target: A function of a module, called as `target(*args, stop)`. `stop` is a `threading.Event` that is set
            together with a KeyboardInterrupt, since callbacks from C may drop the latter.
        args: Arguments of `target`; they are pickled.
        n_workers: Number of processes, 0 or more.
        n_threads: Number of threads for arithmetic in each process, 1 or more.

    Attributes:
        exit_code: Exit code of the first process that failed and was not replaced; 0 when there is none.
    """

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], n_workers: int, *, n_threads: int) -> None:
        self.exit_code = 0
        self._call, self._n_workers, self._n_threads = (target, args), n_workers, n_threads
        self._workers: dict[int, BaseProcess] = {}
        self._n_restarts = 0

    def __enter__(self) -> "WorkerPool":
        for index in range(self._n_workers):
            self._start(index)
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def run(self) -> Iterator[None]:
        """Iterate until all processes have ended.

        Yields:
            Nothing, about twice a second, and once more after the end.
        """
        while self._workers:
            yield
            wait([worker.sentinel for worker in self._workers.values()], POLL_S)
            for index, worker in list(self._workers.items()):
                if index in self._workers and worker.exitcode is not None:  # `_ended` may stop all
                    del self._workers[index]
                    self._ended(index, worker.exitcode)
        yield

    def stop(self) -> None:
        """Interrupt all processes and wait for their end; kill those that take longer than a minute."""
        for worker in self._workers.values():
            worker.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for worker in self._workers.values():
            with contextlib.suppress(KeyboardInterrupt):  # do not wait after a second Ctrl-C
                worker.join(max(0.1, deadline - time.monotonic()))
            worker.kill()
            worker.join()
        self._workers.clear()

    def _start(self, index: int) -> None:
        environment = {**_gpu(index), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(self._n_threads))}
        # a forked process would share CUDA and the threads of the parent
        worker = multiprocessing.get_context("spawn").Process(target=_run_worker, args=(environment, *self._call))
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited, because the parent handles Ctrl-C
        try:
            worker.start()
        finally:
            signal.signal(signal.SIGINT, before)
        self._workers[index] = worker

    def _ended(self, index: int, exit_code: int) -> None:
        if exit_code == 0:
            return
        if exit_code in (FAULT, STOPPED) or self._n_restarts >= MAX_RESTARTS * self._n_workers:
            self.exit_code = self.exit_code or max(1, exit_code)
            self.stop()
            return
        hint = "; often for lack of memory" if exit_code == KILLED else ""
        how = f"signal {-exit_code}{hint}" if exit_code < 0 else f"exit status {exit_code}"
        say(f"A worker process ended ({how}); another takes its place.")
        self._n_restarts += 1
        self._start(index)


def _run_worker(environment: dict[str, str], target: Callable[..., None], args: tuple[Any, ...]) -> None:
    os.environ.update(environment)  # before any framework is imported
    try:
        target(*args, _interrupt_with_parent())
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except (UserError, OSError) as error:
        say(f"birdnet-fs: {error}")
        sys.exit(FAULT)


def _interrupt_with_parent() -> threading.Event:
    """Raise KeyboardInterrupt, once, on SIGTERM and when the parent process ends; also set the returned event."""
    stop = threading.Event()

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal would interrupt the cleanup
        stop.set()
        raise KeyboardInterrupt

    def watch_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_TIMEOUT_S)
        os._exit(STOPPED)  # the main thread is blocked outside of Python

    signal.signal(signal.SIGTERM, interrupt)
    threading.Thread(target=watch_parent, daemon=True).start()
    return stop


def threads_per_worker(n_workers: int) -> int:
    """Divide the cores that this process may use by the number of workers; 1 or more."""
    return max(1, n_cpus() // n_workers)


def _gpu(index: int) -> dict[str, str]:
    """Environment that selects one of the visible NVIDIA GPUs for each process in turn; empty with less than two."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = Path("/proc/driver/nvidia/gpus")
    visible = given.split(",") if given is not None else [str(i) for i, _ in enumerate(gpus.glob("*"))]
    return {"CUDA_VISIBLE_DEVICES": visible[index % len(visible)]} if len(visible) > 1 else {}
