"""Speed of exact search: `similarities` over a store of float16 against one NumPy product of the same data in float32.

Run: python benchmarks/search.py [n_windows [width]]. Both sides run in turn in one process and read memory that is
mapped or resident already; best of five. NumPy multiplies a matrix of one tenth of the rows, held in float32, and its
time is scaled to all rows, since the whole matrix would take twice the memory of the store. A ratio above 1 means that
the search is faster. Memory is the most that a search takes beyond the mapped file, for a tenth of the windows and for
all of them.
"""

import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

from birdnet_fs.search.neighbors import best_windows, similarities
from birdnet_fs.search.store import EmbeddedRecording, Store, StoreHeader, open_store
from birdnet_fs.search.write_store import create_store, write_part

PART = 16_384  # windows of a part, as embed writes them


def make_store(folder: Path, n_windows: int, width: int) -> Store:
    """A store of random non-negative embeddings."""
    header = StoreHeader("random", "", "", "-", "", 48_000, 3.0, 3.0, width, "float16")
    create_store(folder, header)
    rng = np.random.default_rng(0)
    for number, start in enumerate(range(0, n_windows, PART)):
        n = min(PART, n_windows - start)
        with write_part(folder, header) as writer:
            writer.append(np.abs(rng.standard_normal((n, width), np.float32)))
            spans = [(3.0 * i, 3.0 * i + 3) for i in range(n)]
            writer.end_recording(EmbeddedRecording(f"{number}.wav", "ok", "", (), 3.0 * n, 1, 1, "", "", n), spans)
    return open_store(folder)


def main(n_windows: int = 1_000_000, width: int = 1024, repeats: int = 5) -> None:
    """Print the times of both sides, the ratio, and the memory that a search takes."""
    query = np.random.default_rng(1).standard_normal(width).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        memory = []
        for n in (n_windows // 10, n_windows):
            store = make_store(Path(folder) / str(n), n, width)
            similarities(store, query)  # maps the file and compiles the loop
            tracemalloc.start()
            similarities(store, query)
            memory.append(tracemalloc.get_traced_memory()[1] / 1e6)
            tracemalloc.stop()
        tenth = store.embeddings(np.arange(n_windows // 10))
        best, cpu = [float("inf")] * 2, [float("inf")] * 2
        for _ in range(repeats):
            for side, call in enumerate((lambda: similarities(store, query), lambda: tenth @ query)):
                start, used = time.perf_counter(), time.process_time()
                call()
                best[side] = min(best[side], time.perf_counter() - start)
                cpu[side] = min(cpu[side], time.process_time() - used)
        start = time.perf_counter()
        best_windows(store, similarities(store, query), 50)
        whole = time.perf_counter() - start
    print(
        f"{n_windows} x {width}: search {best[0]:.3f} s, NumPy float32 {10 * best[1]:.3f} s, ratio "
        f"{10 * best[1] / best[0]:.2f}; CPU time {cpu[0]:.3f} and {10 * cpu[1]:.3f} s; with the 50 best windows "
        f"{whole:.3f} s; memory {memory[0]:.1f} MB for a tenth of the windows, {memory[1]:.1f} MB for all"
    )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
