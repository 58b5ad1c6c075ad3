"""The compiled loop against sums by hand; tests/motifs/test_matrix_profile.py tests what it is for."""

import numpy as np
import pytest

from birdnet_fs.motifs.join_kernel import tile_loop


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("gap", [0, 1, 2, 9])
def test_tile_updates_only_columns_with_a_nearer_row(real: type, gap: int) -> None:
    rng = np.random.default_rng(0)
    n_rows, n_columns, window, first_row, first_column = 5, 7, 3, 10, 8
    frames = rng.integers(-3, 4, (n_rows + window - 1, n_columns + window - 1)).astype(real)  # sums are exact
    squares = rng.integers(0, 20, n_rows).astype(real)
    best, index = np.full(n_columns, -2, real), np.full(n_columns, 99, np.int32)
    expected, numbers = best.copy(), index.copy()
    for i in range(n_rows):
        for j in range(n_columns):
            distance = squares[i] - 2 * sum(frames[i + k, j + k] for k in range(window))
            if abs(first_row + i - first_column - j) >= gap and distance < expected[j]:
                expected[j], numbers[j] = distance, first_row + i
    heads = np.ascontiguousarray(frames[:, :window].T)
    tile_loop()(frames, heads, squares, first_row, first_column, gap, best, index)
    np.testing.assert_array_equal(best, expected)
    np.testing.assert_array_equal(index, numbers)
    assert 99 in index and (index != 99).any() == (gap < 9)  # some were nearer before, some are now
