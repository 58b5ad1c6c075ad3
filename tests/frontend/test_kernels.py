"""Compiled loops against numpy and scipy over the whole range of float32."""

import functools

import numba
import numba.core.caching as caching
import numpy as np
import pytest
import scipy.signal
import tolerances

from birdnet_fs.frontend import kernels as module
from birdnet_fs.frontend import preset
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.frontend.kernels import _exp, compile_cached, kernels


def test_log_is_accurate_over_all_floats():
    x = np.exp(np.random.default_rng(0).uniform(np.log(1.2e-38), np.log(3.4e38), 100_003)).astype(np.float32)
    x[:3] = 0.0, 1.0, 2.0
    for floor in (1.2e-38, 1e-10):
        expected = 10 * np.log10(np.maximum(x.astype(np.float64), floor))
        got = x.copy()
        kernels().log(got, floor, 10 / np.log(10))
        assert (np.abs(got - expected) <= tolerances.FRONTEND_LOG * np.maximum(1, np.abs(expected))).all()


def without_cache(monkeypatch):
    """As in a read-only installation without a home directory, where numba's cache raises."""

    def refuse(locator):
        raise OSError("read-only")

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", refuse)


def test_a_kernel_compiles_without_a_writable_cache(monkeypatch):
    without_cache(monkeypatch)
    signature = numba.void(numba.float32[::1])
    with pytest.raises((RuntimeError, OSError)):
        numba.njit([signature], cache=True)(_exp)
    x = np.linspace(-80, 80, 100, dtype=np.float32)
    given, expected = x.copy(), x.copy()
    compile_cached(_exp, [signature])(given)
    kernels().exp(expected)
    assert np.array_equal(given, expected)


@pytest.mark.slow
def test_features_are_computed_without_a_writable_cache(monkeypatch):
    spec, x = preset("panns"), np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    expected = log_mel(x, spec)
    without_cache(monkeypatch)
    monkeypatch.setattr(module, "_compiled", functools.cache(module._compiled.__wrapped__))
    assert np.array_equal(log_mel(x, spec), expected)


def test_exp_is_accurate_over_its_range():
    x = np.linspace(-87, 88, 1_000_003).astype(np.float32)
    expected = np.exp(x.astype(np.float64))
    given = x.copy()
    kernels().exp(given)
    assert (np.abs(given / expected - 1) <= tolerances.FRONTEND_LOG).all()
    ends = np.array([0.0, -1e9, 1e9], np.float32)
    kernels().exp(ends)
    assert ends[0] == 1 and 0 < ends[1] < 1e-37 and 1e38 < ends[2] < np.inf


def test_finite_finds_one_nan_or_infinity():
    for dtype in (np.float32, np.float64):
        x = np.random.default_rng(0).normal(size=1000).astype(dtype)
        assert kernels().finite(x)
        for bad in (np.nan, np.inf, -np.inf):
            x[731] = bad
            assert not kernels().finite(x)


def test_running_mean_equals_scipys_filter():
    x = np.random.default_rng(0).exponential(size=(300, 5)).astype(np.float32)
    before, out = np.full(5, 2.0, np.float32), np.empty_like(x)
    kernels().running_mean(x, 0.04, 0.5, before, out)
    expected, _ = scipy.signal.lfilter([0.04], [1, -0.96], x.astype(np.float64), axis=0, zi=np.full((1, 5), 0.96 * 2))
    assert np.abs(out - 0.5 - expected).max() <= tolerances.FRONTEND_SMOOTHER * expected.max()
    np.testing.assert_allclose(before + np.float32(0.5), out[-1], rtol=1e-6)  # the last mean, one float32 step


def test_banded_matmul_equals_the_dense_product():
    rng = np.random.default_rng(0)
    begin = np.array([0, 2, 2, 7, 4])
    end = np.array([3, 6, 2, 8, 9])  # the third row is empty
    dense = np.zeros((5, 9), np.float32)
    for row, first, last in zip(dense, begin, end, strict=True):
        row[first:last] = rng.normal(size=last - first)
    offset = np.concatenate([[0], np.cumsum(end - begin)])
    weights = np.concatenate([row[first:last] for row, first, last in zip(dense, begin, end, strict=True)])
    lines, out = rng.normal(size=(9, 4)).astype(np.float32), np.empty((5, 4), np.float32)
    kernels().banded_matmul(lines, begin, end, offset, weights, out)
    np.testing.assert_allclose(out, dense.astype(np.float64) @ lines, atol=1e-6)  # float32 sums of 5 terms
