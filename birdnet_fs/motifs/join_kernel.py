"""Compiled loop of a similarity join: sums along the diagonals of a tile, and the smallest distances.

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
    products: Any, window: int, squares: Any, first_row: int, first_column: int, gap: int, best: Any, index: Any
) -> None:
    """Update the nearest neighbors of the windows of the columns among those of the rows.

    Distances lack the squared length of the window of the column, which does not change its neighbor.

    Args:
        products: [n_rows + window - 1, n_columns + window - 1], inner products of frames.
        window: Frames of a window.
        squares: [n_rows], squared lengths of the windows of the rows.
        first_row: Number of the first row among all.
        first_column: Number of the first column among all.
        gap: Smallest difference between the numbers of two windows that are compared; 0 compares all.
        best: [n_columns], smallest distance - own square so far; updated.
        index: int32 [n_columns], the row of each, counted among all; updated.
    """
    n_rows, n_columns = squares.shape[0], best.shape[0]
    sums = np.zeros(n_rows - 1 + n_columns, products.dtype)
    for i in range(n_rows):
        row = sums[n_rows - 1 - i : n_rows - 1 - i + n_columns]
        if i:
            for k in range(window):
                row[0] += products[i + k, k]
            _add_change(row[1:], products[i + window - 1, window:], products[i - 1])
        else:
            for k in range(window):
                _add(row, products[k, k:])
        number = first_row + i
        end = min(n_columns, max(0, number - gap + 1 - first_column))
        _update(row[:end], squares[i], number, best[:end], index[:end])
        start = max(end, min(n_columns, max(0, number + gap - first_column)))
        _update(row[start:], squares[i], number, best[start:], index[start:])


@_inlined
def _add(row: Any, products: Any) -> None:
    for j in range(uint64(row.shape[0])):
        row[j] += products[j]


@_inlined
def _add_change(row: Any, entering: Any, leaving: Any) -> None:
    for j in range(uint64(row.shape[0])):
        row[j] += entering[j] - leaving[j]


@_inlined
def _update(row: Any, square: Any, number: int, best: Any, index: Any) -> None:
    for j in range(uint64(row.shape[0])):
        distance = square - (row[j] + row[j])
        nearer = distance < best[j]
        best[j] = distance if nearer else best[j]
        index[j] = number if nearer else index[j]


@functools.lru_cache(maxsize=1)
def tile_loop() -> Callable[..., None]:
    """The compiled loop, for float32 and float64."""
    signatures = []
    for real in (numba.float32, numba.float64):
        line, table = (numba.types.Array(real, n, "C", readonly=True) for n in (1, 2))
        number = numba.int64
        signatures.append(numba.void(table, number, line, number, number, number, real[::1], numba.int32[::1]))
    try:
        return numba.njit(signatures, cache=True, nogil=True, **_OPTIONS)(_tile)
    except (RuntimeError, OSError):  # the cache folder is not writable, or the disk is full
        return numba.njit(signatures, nogil=True, **_OPTIONS)(_tile)
