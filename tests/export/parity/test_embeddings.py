"""Comparison of embeddings with those of the run, and the data for enrollment on a device."""

import numpy as np
import pytest

from birdnet_fs.export.parity.compare import compare_outputs
from birdnet_fs.export.parity.embeddings import EMBEDDING_TOLERANCES, compare_embeddings
from birdnet_fs.export.parity.inputs import EDGE_NAMES, ParityInputs

N = 40


def embeddings_of() -> np.ndarray:
    """Embeddings of the edges and of N segments that have much in common and differ by lengths of about 4."""
    return (100 + np.random.default_rng(5).normal(size=(len(EDGE_NAMES) + N, 16))).astype(np.float32)


@pytest.mark.parametrize("precision", EMBEDDING_TOLERANCES)
def test_embedding_errors_over_the_tolerance_are_reported(precision: str) -> None:
    x = embeddings_of()
    same = compare_embeddings(x, x, precision, len(EDGE_NAMES))
    assert not same.failures and same.spread == pytest.approx(4, rel=0.2)
    budget = EMBEDDING_TOLERANCES[precision]
    for row in (0, 7) if precision != "int8" else (7,):  # made and real ones; made ones saturate in 8 bits
        other = x.astype(np.float64)
        other[row, 3] += 0.9 * budget.max_error * same.spread
        assert not compare_embeddings(x, other, precision, len(EDGE_NAMES)).failures
        other[row, 3] += 0.2 * budget.max_error * same.spread
        assert "largest error of an embedding" in compare_embeddings(x, other, precision, len(EDGE_NAMES)).failures[0]
    moved = compare_embeddings(x, x + 1.1 * budget.mean_error * same.spread / 4, precision, len(EDGE_NAMES))
    assert "mean error of an embedding" in moved.failures[0]  # 16 numbers, each a quarter of the length


def test_tolerance_grows_for_embeddings_far_from_real_ones() -> None:
    x = embeddings_of()
    x[0] += 100  # 400 from the others, whose spread is 4
    budget = EMBEDDING_TOLERANCES["fp32"].max_error
    for row, allowed in ((0, True), (7, False)):
        other = x.astype(np.float64)
        other[row, 3] += 5 * budget * 4
        assert bool(compare_embeddings(x, other, "fp32", len(EDGE_NAMES)).failures) is not allowed


def test_constant_or_not_finite_embeddings_are_reported() -> None:
    x = embeddings_of()
    nan, flat = x.copy(), np.tile(x[:1], (len(x), 1))
    nan[2, 1] = np.nan
    assert "NaN" in compare_embeddings(x, nan, "fp32", len(EDGE_NAMES)).failures[0]
    found = compare_embeddings(flat, flat, "fp32", len(EDGE_NAMES))
    assert "the network itself gives the same embedding" in found.failures[0]
    assert found.to_json()["max_error"] is None


def test_failures_of_embeddings_are_failures_of_the_artifact() -> None:
    logits = np.random.default_rng(3).normal(0, 3, (len(EDGE_NAMES) + N, 5)).astype(np.float32)
    inputs, x = ParityInputs(np.zeros((len(logits), 8), np.float32), None, "made"), embeddings_of()
    both = compare_outputs(logits, logits, inputs, "fp32", "softmax").with_embeddings(
        compare_embeddings(x, x + 1, "fp32", len(EDGE_NAMES))
    )
    assert "embedding" in both.failures[0] and "embeddings max" in str(both)
    assert both.to_json()["embeddings"]["budget"]["max_error"] == EMBEDDING_TOLERANCES["fp32"].max_error
