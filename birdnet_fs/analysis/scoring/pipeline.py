"""Many recordings on several threads: one decodes while others score, in constant memory and in a fixed order.

Each thread takes the next task that can be done: score a batch of windows that is decoded, or decode the next batch of
a recording. Decoders, the front-end and the runtimes release Python's interpreter lock, so that n threads use n cores,
for one long recording as for many short ones. A batch holds windows of one recording, and which ones does not depend on
the other recordings or on the number of threads: nor do the results, to the last bit.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

from birdnet_fs.core.errors import UserError

Batch = TypeVar("Batch")
Result = TypeVar("Result")
AnyJob = TypeVar("AnyJob", bound="Job[Any, Any]")
AHEAD = 3  # recordings that are begun for each thread before the first of them is delivered


class Job(Generic[Batch, Result]):
    """One recording.

    Args:
        batches: Decodes the batches in order, each when it is asked for; an error ends the recording.

    Attributes:
        results: Results of the batches, in order; empty until the job is delivered.
        error: UserError or OSError of the decoder or of a batch that ended the recording; None where there is none.
    """

    def __init__(self, batches: Generator[Batch, None, None]) -> None:
        self.batches = batches
        self.results: list[Result] = []
        self.error: UserError | OSError | None = None
        self._found: dict[int, Result] = {}
        self._n_batches = self._n_open = 0
        self._decoding = self._decoded = False

    @property
    def _done(self) -> bool:
        return self._decoded and not self._decoding and not self._n_open


class _Workers(Generic[AnyJob]):
    """The threads and what they share; every attribute is read and written with the lock held."""

    def __init__(self, score: Callable[[Any], Any], n_workers: int) -> None:
        self._score = score
        self._changed = threading.Condition()
        self._jobs: deque[AnyJob] = deque()  # begun and not delivered, in order
        self._ready: deque[tuple[AnyJob, int, Any]] = deque()
        self._failure: BaseException | None = None
        self._stopped = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(n_workers)]
        for thread in self._threads:
            thread.start()

    def add(self, job: AnyJob) -> None:
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def first(self) -> AnyJob:
        """The first job, when it is done; those that were done before a failure are delivered first."""
        with self._changed:
            while not self._jobs[0]._done and self._failure is None:
                self._changed.wait()
            if not self._jobs[0]._done and self._failure is not None:
                raise self._failure
            job = self._jobs.popleft()
        job.batches.close()
        job.results = [job._found[number] for number in sorted(job._found)]
        return job

    def stop(self) -> None:
        """End the threads, each after its task, and close the recordings."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for job in self._jobs:
            job.batches.close()

    def _work(self) -> None:
        try:
            while (task := self._next()) is not None:
                task()
        except BaseException as failure:  # raised again where the results are read
            with self._changed:
                self._failure = self._failure or failure
                self._changed.notify_all()

    def _next(self) -> Callable[[], None] | None:
        """The next task; None = there will be none."""
        with self._changed:
            while not self._stopped and self._failure is None:
                if self._ready:
                    job, number, batch = self._ready.popleft()
                    return partial(self._score_one, job, number, batch)
                for job in self._jobs:
                    if not job._decoding and not job._decoded:
                        job._decoding = True
                        return partial(self._decode_one, job)
                self._changed.wait()
            return None

    def _decode_one(self, job: AnyJob) -> None:
        batch, error = None, None
        try:
            batch = next(job.batches, None)
        except (UserError, OSError) as reason:
            error = reason
        with self._changed:
            job._decoding = False
            if error is not None:
                self._fail(job, error)
            elif batch is None:
                job._decoded = True
            elif job.error is None:
                self._ready.append((job, job._n_batches, batch))
                job._n_batches += 1
                job._n_open += 1
            self._changed.notify_all()

    def _score_one(self, job: AnyJob, number: int, batch: Any) -> None:
        error = None
        try:
            found = self._score(batch)
        except (UserError, OSError) as reason:
            error = reason
        with self._changed:
            job._n_open -= 1
            if error is not None:
                self._fail(job, error)
            else:
                job._found[number] = found
            self._changed.notify_all()

    def _fail(self, job: AnyJob, error: UserError | OSError) -> None:
        job.error, job._decoded = job.error or error, True
        job._n_open -= sum(each is job for each, _, _ in self._ready)
        self._ready = deque(task for task in self._ready if task[0] is not job)


def run_jobs(jobs: Iterable[AnyJob], score: Callable[[Any], Any], *, n_workers: int) -> Iterator[AnyJob]:
    """Decode and score recordings.

    Args:
        jobs: The recordings. The next ones are asked for, in the calling thread, when threads would be idle.
        score: Result of a batch; called by several threads at once.
        n_workers: Number of threads, 1 or more.

    Yields:
        The jobs in order, done. Another error than a UserError or OSError of a decoder or of `score` is raised here;
        when the caller stops early, the threads end first.
    """
    workers = _Workers[AnyJob](score, n_workers)
    waiting, n_begun, source = True, 0, iter(jobs)
    try:
        while waiting or n_begun:
            while waiting and n_begun < AHEAD * n_workers:
                job = next(source, None)
                waiting = job is not None
                if job is not None:
                    workers.add(job)
                    n_begun += 1
            if n_begun:
                yield workers.first()
                n_begun -= 1
    finally:
        workers.stop()
