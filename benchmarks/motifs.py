"""Speed of similarity joins: ours against SiMPle-fast in NumPy, brute force, and stumpy (another distance).

Run: python benchmarks/motifs.py. Sequences of 300, 1000 and 3000 frames of 12 values, windows of 20 frames, one
sequence joined with another; all sides in turn in one process on one thread, best of the repeats; a ratio above 1
means that ours is faster. `pip install stumpy` for its rows: `stump` of one of the twelve dimensions, times twelve, and
`maamp`, a self-join of Euclidean distances; both are timed after a first call, which compiles.
"""

import importlib
import time
from collections.abc import Callable

import numba
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from threadpoolctl import threadpool_limits

from birdnet_fs.motifs.matrix_profile import ab_join, self_join

WINDOW, WIDTH = 20, 12
SLOW = ("brute force", "stumpy.maamp")  # timed once


def simple_fast(a: np.ndarray, b: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """SiMPle-fast (Silva et al. 2016): each row of inner products from the one above, all columns at once."""
    n, n_other = len(a) - window + 1, len(b) - window + 1
    squares, others = (sliding_window_view(np.square(x).sum(axis=1), window).sum(axis=1) for x in (a, b))
    products = sum(b[k : k + n_other] @ a[k] for k in range(window))
    first = sum(a[k : k + n] @ b[k] for k in range(window))
    best, index = np.empty(n), np.empty(n, int)
    for i in range(n):
        if i:
            products[1:] = products[:-1] - b[: n_other - 1] @ a[i - 1] + b[window:] @ a[i + window - 1]
            products[0] = first[i]
        distances = others - 2 * products
        index[i] = distances.argmin()
        best[i] = distances[index[i]] + squares[i]
    return best, index


def brute_force(a: np.ndarray, b: np.ndarray, window: int) -> np.ndarray:
    """Every pair of windows, without reuse."""
    first, second = (sliding_window_view(x.ravel(), window * WIDTH)[::WIDTH] for x in (a, b))
    return np.stack([np.square(second - row).sum(axis=1).min() for row in first])


def best_ms(call: Callable[[], object], repeats: int) -> float:
    """Shortest time of a call in milliseconds."""
    found = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found = min(found, time.perf_counter() - start)
    return 1000 * found


def main() -> None:
    """Print the times and ratios."""
    try:
        stumpy = importlib.import_module("stumpy")
    except ImportError:
        stumpy = None
        print("stumpy is not installed: its rows are left out")
    rng = np.random.default_rng(0)
    for n in (300, 1000, 3000):
        a, b = (np.abs(rng.standard_normal((n, WIDTH))) for _ in range(2))
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        repeats = max(5, 3000 // n * 5)
        np.testing.assert_allclose(ab_join(a, b, WINDOW, precision="float64").distances, simple_fast(a, b, WINDOW)[0])
        ours = best_ms(lambda a=a, b=b: ab_join(a, b, WINDOW), 4 * repeats)
        sides: dict[str, Callable[[], object]] = {
            "SiMPle-fast": lambda a=a, b=b: simple_fast(a, b, WINDOW),
            "brute force": lambda a=a, b=b: brute_force(a, b, WINDOW),
            "ours, float64": lambda a=a, b=b: ab_join(a, b, WINDOW, precision="float64"),
            "ours, self-join": lambda a=a: self_join(a, WINDOW),
        }
        if stumpy is not None:
            numba.set_num_threads(1)
            line = np.ascontiguousarray(a[:, 0])
            sides["stumpy.maamp"] = lambda a=a: stumpy.maamp(a.T, WINDOW)
            sides["stumpy.stump, one of 12"] = lambda line=line: stumpy.stump(line, WINDOW)
            for name in ("stumpy.maamp", "stumpy.stump, one of 12"):
                sides[name]()  # compiles
        print(f"{n} frames: ours, float32 {ours:.2f} ms, {(n - WINDOW + 1) ** 2 / ours / 1e3:.0f} million pairs / s")
        for name, call in sides.items():
            if name == "brute force" and n > 1000:  # a minute
                continue
            took = best_ms(call, 1 if name in SLOW and n >= 1000 else repeats) * (12 if "12" in name else 1)
            print(f"  {name:24} {took:9.2f} ms, ratio {took / ours:7.1f}")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
