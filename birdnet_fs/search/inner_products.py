"""Inner products of embeddings with queries, exact, for float16 and float32 blocks of a mapped store.

float16 values are widened to float32 by integer arithmetic in a compiled loop (numba), because the conversion of NumPy
takes ten times as long as the product itself; all sums are in float32.
"""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numba
import numpy as np
from numpy import float32, uint32, uint64
from numpy.typing import NDArray

from birdnet_fs.core.installation.resources import n_cpus
from birdnet_fs.frontend.energy_kernel import OPTIONS
from birdnet_fs.frontend.kernels import compile_cached

ROWS = 8192  # rows of one task: 16 MB of float16 at 1024 values
_inlined = numba.njit(**OPTIONS)
_lock = threading.Lock()


class Rows(Protocol):
    """Embeddings [n, width] that are read when they are indexed: a mapped array, or an index file."""

    @property
    def dtype(self) -> np.dtype:
        """float16 or float32."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> np.ndarray: ...


def largest_inner_products(
    blocks: Sequence[Rows], queries: np.ndarray
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Largest inner product of every row with any query, in float32.

    Rows are read once, ROWS at a time in as many threads as there are CPUs, so that memory beside the result is
    constant.

    Args:
        blocks: Finite embeddings float16 or float32 [n, width] each, in memory or mapped.
        queries: float32 [n_queries, width], one query or more.

    Returns:
        The products, float32 [number of all rows], and the index of the query of each, int32.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    n_rows = sum(map(len, blocks))
    found, which = np.empty(n_rows, np.float32), np.zeros(n_rows, np.int32)

    def write_largest(rows: np.ndarray, place: slice) -> None:
        products = np.empty((len(rows), len(queries)), np.float32)
        if rows.dtype == np.float16:
            _loops().products(_halves(rows), queries, products)
        else:
            np.matmul(rows, queries.T, out=products)
        if len(queries) > 1:
            which[place] = products.argmax(axis=1)
        found[place] = products.max(axis=1)

    _for_each_piece(blocks, write_largest)
    return found, which


def norms(blocks: Sequence[Rows]) -> NDArray[np.float32]:
    """Euclidean length of every row, summed in float32.

    Args:
        blocks: Finite embeddings float16 or float32 [n, width] each, in memory or mapped.

    Returns:
        float32 [number of all rows].
    """
    found = np.empty(sum(map(len, blocks)), np.float32)

    def write_lengths(rows: np.ndarray, place: slice) -> None:
        wide = widen(rows)
        np.sqrt(np.einsum("ij,ij->i", wide, wide), out=found[place])

    _for_each_piece(blocks, write_lengths)
    return found


def widen(rows: np.ndarray) -> NDArray[np.float32]:
    """A float32 copy of finite float16 or float32 rows [n, width]."""
    if rows.dtype != np.float16:
        return np.array(rows, np.float32)
    wide = np.empty(rows.shape, np.float32)
    _loops().widen(_halves(rows), wide)
    return wide


def widened(blocks: Sequence[Rows]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Embeddings as float32, ROWS at a time.

    Args:
        blocks: Finite embeddings float16 or float32 [n, width] each, in memory or mapped.

    Yields:
        Number of the first row, and float32 [n, width].
    """
    first = 0
    for block in blocks:
        for start in range(0, len(block), ROWS):
            yield first + start, widen(block[start : start + ROWS])
        first += len(block)


def _for_each_piece(blocks: Sequence[Rows], work: Callable[[np.ndarray, slice], None]) -> None:
    """Call `work` with ROWS rows and their place among all rows, in several threads."""
    firsts = np.cumsum([0, *map(len, blocks)]).tolist()
    pieces = [
        (block[start : start + ROWS], slice(first + start, first + min(start + ROWS, len(block))))
        for first, block in zip(firsts[:-1], blocks, strict=True)
        for start in range(0, len(block), ROWS)
    ]
    if len(pieces) == 1:
        work(*pieces[0])
        return
    with ThreadPoolExecutor(n_cpus()) as pool:
        list(pool.map(lambda piece: work(*piece), pieces))


def _halves(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows).view(np.uint16)


def _products(halves: Any, queries: Any, out: Any) -> None:
    """Write the inner products of rows, uint16 [n, width], with queries [n_queries, width] to out [n, n_queries]."""
    n_rows, width = halves.shape
    row = np.empty(width, np.float32)  # in the first-level cache, widened once for all queries
    for i in range(n_rows):
        for j in range(uint64(width)):
            row[j] = _widened(halves[i, j])
        for k in range(queries.shape[0]):
            total = float32(0)
            for j in range(uint64(width)):
                total += row[j] * queries[k, j]
            out[i, k] = total


def _widen(halves: Any, out: Any) -> None:
    for i in range(halves.shape[0]):
        for j in range(uint64(halves.shape[1])):
            out[i, j] = _widened(halves[i, j])


@_inlined
def _widened(float16: Any) -> Any:
    """The float32 of the bits of a finite float16, without a branch, so that the loops are vectorized.

    The exponent is moved from the bias of float16 (15) to that of float32 (127). A subnormal number, m / 1024 * 2^-14,
    is then read as v = (1 + m / 1024) * 2^-15, and 2 v - 2^-14 is its value.
    """
    bits = uint32(float16)
    moved = uint32(((bits & uint32(0x7FFF)) << uint32(13)) + uint32(112 << 23)).view(np.float32)
    size = float32(moved + min(moved - float32(2.0**-14), float32(0)))
    return uint32(size.view(np.uint32) | ((bits & uint32(0x8000)) << uint32(16))).view(np.float32)


class _Loops(NamedTuple):
    products: Callable[[np.ndarray, np.ndarray, np.ndarray], None]
    widen: Callable[[np.ndarray, np.ndarray], None]


def _loops() -> _Loops:
    with _lock:  # one compilation, whichever thread comes first
        return _compiled()


@functools.lru_cache(maxsize=1)
def _compiled() -> _Loops:
    halves, single = numba.types.Array(numba.uint16, 2, "C", readonly=True), numba.float32[:, ::1]
    queries = numba.types.Array(numba.float32, 2, "C", readonly=True)
    return _Loops(
        compile_cached(_products, [numba.void(halves, queries, single)]),
        compile_cached(_widen, [numba.void(halves, single)]),
    )
