"""Inner products against float64, and the widening of float16 against NumPy for every finite number of the type."""

import numpy as np
import pytest
import tolerances

from birdnet_fs.search import inner_products as module
from birdnet_fs.search.inner_products import inner_products, norms, widen


def test_every_finite_float16_is_widened_exactly():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(2, -1)
    found = widen(halves)
    np.testing.assert_array_equal(found, halves.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(found), np.signbit(halves))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("n_queries", [1, 3])
def test_products_and_norms_equal_float64_over_blocks_of_any_size(monkeypatch, dtype, n_queries):
    monkeypatch.setattr(module, "ROWS", 7)
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(n, 33)).astype(dtype) for n in (0, 1, 7, 20)]
    queries = rng.normal(size=(n_queries, 33)).astype(np.float32)
    rows, wide = np.concatenate(blocks).astype(np.float64), queries.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    error = np.abs(inner_products(blocks, queries) - rows @ wide.T)
    assert (error <= tolerances.INNER_PRODUCTS * lengths[:, None] * np.linalg.norm(wide, axis=1)).all()
    np.testing.assert_allclose(norms(blocks), lengths, rtol=tolerances.INNER_PRODUCTS)


def test_mapped_rows_are_read_in_place(tmp_path):
    np.ones((5, 4), np.float16).tofile(tmp_path / "x.bin")
    mapped = np.memmap(tmp_path / "x.bin", np.dtype("<f2"), "r", shape=(5, 4))
    np.testing.assert_array_equal(inner_products([mapped], np.full((1, 4), 0.5, np.float32)), np.full((5, 1), 2.0))
