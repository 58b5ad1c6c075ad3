"""Work in several threads with the results in order and bounded memory.

Threads suffice for decoding and features: libsndfile, soxr, hashes and the compiled front-end release the interpreter.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from birdnet_fs.core.installation.resources import n_cpus

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")
AHEAD = 2  # results per thread that may wait for those before them


def in_order(jobs: Iterable[tuple[Key, Callable[[], Result]]], *, threads: int = 0) -> Iterator[tuple[Key, Result]]:
    """Call functions in several threads.

    Args:
        jobs: Names and functions.
        threads: Number of threads. Default: 0, one for each CPU.

    Yields:
        The names with the results, in the order of `jobs`. An exception of a function is raised in its place.
    """
    threads = threads or n_cpus()
    waiting: deque[tuple[Key, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for key, function in jobs:
                waiting.append((key, pool.submit(function)))
                if len(waiting) >= AHEAD * threads:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
