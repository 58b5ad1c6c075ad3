"""Compiled loops of a similarity join: sums along the diagonals of a tile, and the smallest distances.

The inner product of two windows is a sum of products of their frames along a diagonal. The next one on that diagonal
has one product more and one less. So a row of inner products is the row above, moved by one, plus a row of products
minus another. The sums are stored by diagonal, and a row is a slice of them: nothing is moved. Neighbors are sought for
the columns, not for the rows, because that is arithmetic on whole rows, which the compiler vectorizes.
"""

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy import uint64

# every liberty of arithmetic: the values are finite, which matrix_profile.py has checked
_OPTIONS: dict[str, Any] = {"fastmath": True, "error_model": "numpy"}
_inlined = numba.njit(**_OPTIONS)


def _tile(
    products: Any,
    heads: Any,
    squares: Any,
    first_row: int,
    first_column: int,
    gap: int,
    best: Any,
    index: Any,
) -> None:
    """Update the nearest neighbors of the windows of the columns among those of the rows.

    Distances lack the squared length of the window of the column, which does not change its neighbor.

    Args:
        products: [n_rows + window - 1, n_columns + window - 1], inner products of frames.
        heads: [window, n_rows + window - 1], the first `window` columns of `products`, transposed: their sums along
            diagonals, from which the other sums of a row follow, are sums of whole rows in it.
        squares: [n_rows], squared lengths of the windows of the rows.
        first_row: Number of the first row among all.
        first_column: Number of the first column among all.
        gap: Smallest difference between the numbers of two windows that are compared; 0 compares all.
        best: [n_columns], smallest distance - own square so far; updated.
        index: int32 [n_columns], the row of each, counted among all; updated.
    """
    n_rows, n_columns, window = squares.shape[0], best.shape[0], heads.shape[0]
    sums = np.zeros(n_rows - 1 + n_columns, products.dtype)
    first = np.zeros(n_rows, products.dtype)
    for k in range(window):
        _add(first, heads[k, k:])
    for i in range(n_rows):
        row = sums[n_rows - 1 - i : n_rows - 1 - i + n_columns]
        number = first_row + i
        end = start = n_columns
        if gap:
            end = min(n_columns, max(0, number - gap + 1 - first_column))
            start = max(end, min(n_columns, max(0, number + gap - first_column)))
        if i == 0:
            for k in range(window):
                _add(row, products[k, k:])
            _update(row[:end], squares[i], number, best[:end], index[:end])
            _update(row[start:], squares[i], number, best[start:], index[start:])
            continue
        row[0] = first[i]
        if (end > 0 or start == 0) and squares[i] - (first[i] + first[i]) < best[0]:
            best[0], index[0] = squares[i] - (first[i] + first[i]), number
        entering, leaving = products[i + window - 1, window:], products[i - 1]
        low, high = max(end, 1), max(start, 1)
        _advance(row[1:low], entering, leaving, squares[i], number, best[1:low], index[1:low])
        if low < n_columns:
            _add_change(row[low:high], entering[low - 1 :], leaving[low - 1 :])
            changes = entering[high - 1 :], leaving[high - 1 :]
            _advance(row[high:], *changes, squares[i], number, best[high:], index[high:])


@_inlined
def _add(row: Any, products: Any) -> None:
    for j in range(uint64(row.shape[0])):
        row[j] += products[j]


@_inlined
def _add_change(row: Any, entering: Any, leaving: Any) -> None:
    for j in range(uint64(row.shape[0])):
        row[j] += entering[j] - leaving[j]


@_inlined
def _advance(row: Any, entering: Any, leaving: Any, square: Any, number: int, best: Any, index: Any) -> None:
    """`_add_change` and `_update` in one pass."""
    for j in range(uint64(row.shape[0])):
        total = row[j] + (entering[j] - leaving[j])
        row[j] = total
        distance = square - (total + total)
        nearer = distance < best[j]
        best[j] = distance if nearer else best[j]
        index[j] = number if nearer else index[j]


@_inlined
def _update(row: Any, square: Any, number: int, best: Any, index: Any) -> None:
    for j in range(uint64(row.shape[0])):
        distance = square - (row[j] + row[j])
        nearer = distance < best[j]
        best[j] = distance if nearer else best[j]
        index[j] = number if nearer else index[j]


def _prepare(x: Any, center: Any, window: int, centered: Any, squares: Any) -> None:
    """Subtract the center of the features, and sum the squared lengths of the windows in float64.

    Args:
        x: float64 [n_frames, width].
        center: float64 [width].
        window: Frames of a window.
        centered: float32 or float64 [n_frames, width]; written.
        squares: float32 or float64 [n_windows], the type of `centered`; written.
    """
    n_frames, width = x.shape
    lengths = np.zeros(n_frames)
    for i in range(n_frames):
        total = 0.0
        for j in range(width):
            value = x[i, j] - center[j]
            centered[i, j] = value
            total += value * value
        lengths[i] = total
    for i in range(squares.shape[0]):
        total = 0.0
        for k in range(window):
            total += lengths[i + k]
        squares[i] = total


def _distances(a: Any, b: Any, neighbors: Any, width: int, window: int, found: Any) -> None:
    """Squared distance of each window to its neighbor.

    Args:
        a: float64 [n_frames * width], the frames behind one another.
        b: float64 [n_other_frames * width], the frames of the other sequence.
        neighbors: int32 [n_windows], -1 without one.
        width: Values of a frame.
        window: Frames of a window.
        found: float64 [n_windows]; written where there is a neighbor.
    """
    size = window * width
    for i in range(neighbors.shape[0]):
        if neighbors[i] >= 0:
            at, other = i * width, neighbors[i] * width
            first, second = a[at : at + size], b[other : other + size]
            total = 0.0
            for k in range(uint64(size)):
                difference = first[k] - second[k]
                total += difference * difference
            found[i] = total


@functools.lru_cache(maxsize=1)
def tile_loop() -> Callable[..., None]:
    """The compiled loop over a tile, for float32 and float64."""
    number, places = numba.int64, numba.int32[::1]
    return _compiled(
        _tile,
        [
            numba.void(_read(real, 2), _read(real, 2), _read(real, 1), number, number, number, real[::1], places)
            for real in (numba.float32, numba.float64)
        ],
    )


@functools.lru_cache(maxsize=1)
def prepare_loop() -> Callable[..., None]:
    """The compiled `_prepare`, for float32 and float64."""
    table, line = _read(numba.float64, 2), _read(numba.float64, 1)
    return _compiled(
        _prepare,
        [numba.void(table, line, numba.int64, real[:, ::1], real[::1]) for real in (numba.float32, numba.float64)],
    )


@functools.lru_cache(maxsize=1)
def distance_loop() -> Callable[..., None]:
    """The compiled `_distances`."""
    line = _read(numba.float64, 1)
    return _compiled(
        _distances, [numba.void(line, line, _read(numba.int32, 1), numba.int64, numba.int64, numba.float64[::1])]
    )


def _read(kind: Any, n: int) -> Any:
    """Type of a contiguous array that is only read."""
    return numba.types.Array(kind, n, "C", readonly=True)


def _compiled(function: Callable[..., None], signatures: list[Any]) -> Callable[..., None]:
    try:
        return numba.njit(signatures, cache=True, nogil=True, **_OPTIONS)(function)
    except (RuntimeError, OSError):  # the cache folder is not writable, or the disk is full
        return numba.njit(signatures, nogil=True, **_OPTIONS)(function)
