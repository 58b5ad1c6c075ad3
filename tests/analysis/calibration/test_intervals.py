"""Intervals of shares against scipy, and effective numbers against Kish's formula in a loop."""

import numpy as np
import pytest
import tolerances
from scipy.stats import binomtest

from birdnet_fs.analysis.calibration.intervals import correlations_within, effective_numbers, share_right, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (7, 9), (31, 40)])
def test_wilson_is_that_of_scipy(right, n):
    expected = binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert wilson(right, n, 1.959963984540054) == pytest.approx(tuple(expected), abs=tolerances.FLOAT64_SUMS)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
def test_effective_numbers_are_kishs(correlation):
    recordings = np.random.default_rng(0).integers(0, 6, 50)
    found = effective_numbers(recordings, correlation)
    for n in range(1, 51):
        sizes = np.bincount(recordings[:n])
        effect = 1 + ((sizes**2).sum() / n - 1) * correlation
        assert found[n - 1] == pytest.approx(n / effect)


def test_detections_of_one_recording_are_one_where_they_are_right_together():
    right, recordings = np.repeat([1, 0, 1, 1], 25), np.repeat(np.arange(4), 25)
    many, one = share_right(right, recordings, 1.0), share_right([1, 0, 1, 1], np.arange(4), 1.0)
    assert (many.value, many.low, many.high) == pytest.approx((one.value, one.low, one.high))
    alone = share_right(right, recordings, 0.0)
    assert many.low < alone.low < alone.value < alone.high < many.high
    empty = share_right([], [], 0.0)
    assert np.isnan(empty.value) and (empty.low, empty.high) == (0.0, 1.0)


def test_correlation_is_that_of_the_detections():
    rng = np.random.default_rng(1)
    recordings = np.repeat(np.arange(500), 6)
    alone = (rng.random(3000) < 0.8).astype(float)
    together = (rng.random(500) < 0.8).astype(float)[recordings]
    half = np.where(rng.random(3000) < np.sqrt(0.5), together, alone)  # both of a pair are the common one in half
    found = correlations_within([(alone, recordings)] * 2)
    assert found == pytest.approx([0, 0], abs=0.05)
    assert correlations_within([(together, recordings)])[0] == pytest.approx(1, abs=0.02)
    assert correlations_within([(half, recordings)])[0] == pytest.approx(0.5, abs=0.07)
    # a class of few detections takes the correlation of the others
    few = correlations_within([(half, recordings)] * 9 + [(np.array([1.0, 0.0]), np.array([0, 0]))])
    assert few[-1] == pytest.approx(few[0], abs=0.05)
    nothing = correlations_within([(np.ones(5), np.zeros(5)), (np.ones(0), np.zeros(0))])
    assert nothing.tolist() == [1, 1]
