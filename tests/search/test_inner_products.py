"""Inner products against float64, and the widening of float16 against NumPy for every finite number of the type."""

import numpy as np
import pytest
import tolerances

from birdnet_fs.search import inner_products as module
from birdnet_fs.search.inner_products import largest_inner_products, norms, widen, widened


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
    products, which = rows @ wide.T, np.arange(len(rows))
    found, query = largest_inner_products(blocks, queries)
    allowed = tolerances.INNER_PRODUCTS * lengths * np.linalg.norm(wide, axis=1).max()
    assert (np.abs(found - products.max(axis=1)) <= allowed).all()
    assert (np.abs(products[which, query] - products.max(axis=1)) <= allowed).all()
    np.testing.assert_allclose(norms(blocks), lengths, rtol=tolerances.INNER_PRODUCTS)
    pieces = list(widened(blocks))
    assert [first for first, _ in pieces] == [0, 1, 8, 15, 22] and all(piece.dtype == np.float32 for _, piece in pieces)
    np.testing.assert_array_equal(np.concatenate([piece for _, piece in pieces]), rows)


def test_mapped_rows_are_read_in_place(tmp_path):
    np.ones((5, 4), np.float16).tofile(tmp_path / "x.bin")
    mapped = np.memmap(tmp_path / "x.bin", np.dtype("<f2"), "r", shape=(5, 4))
    np.testing.assert_array_equal(largest_inner_products([mapped], np.full((1, 4), 0.5, np.float32))[0], [2.0] * 5)
