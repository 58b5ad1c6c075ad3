"""Estimates of call density and precision: known shares, and intervals that hold the truth as often as they say."""

import numpy as np
import pytest
from scipy.stats import beta

from birdnet_fs.analysis.verification.estimate import StratumCounts, density_and_precision, estimate_share
from birdnet_fs.analysis.verification.strata import BELOW, draw_strata

N_DEPLOYMENTS = 1_000


def deployment(seed: int) -> tuple[list[StratumCounts], float, float]:
    """A season of 5,000 windows with a classifier of any quality, verified without errors; density and precision."""
    rng = np.random.default_rng(seed)
    n, wanted, threshold = 5_000, int(rng.choice([50, 100, 200])), float(rng.choice([0.05, 0.1, 0.25]))
    calls = rng.random(n) < np.exp(rng.uniform(np.log(0.01), np.log(0.5)))
    quality = rng.uniform(2, 5)
    scores = 1 / (1 + np.exp(-rng.normal(np.where(calls, quality / 2, -quality / 2) - 0.5, 1.5)))
    detected, below = np.flatnonzero(scores >= threshold), np.flatnonzero(scores < threshold)
    counts = []
    for each in draw_strata(scores[detected], len(below), wanted, rng):
        drawn = (below if each.number == BELOW else detected)[each.drawn]
        counts.append(StratumCounts(each.number, each.n_windows, len(drawn), int(calls[drawn].sum())))
    return counts, float(calls.mean()), float(calls[detected].mean())


def test_intervals_of_95_percent_hold_the_truth_in_93_to_97_percent_of_deployments() -> None:
    inside, errors = np.zeros((N_DEPLOYMENTS, 2), bool), np.zeros((N_DEPLOYMENTS, 2))
    for seed in range(N_DEPLOYMENTS):
        counts, *truth = deployment(seed)
        for which, (found, true) in enumerate(zip(density_and_precision(counts), truth, strict=True)):
            inside[seed, which], errors[seed, which] = found.low <= true <= found.high, found.value - true
    assert (inside.mean(0) >= 0.93).all() and (inside.mean(0) <= 0.97).all(), inside.mean(0)
    # unbiased: the mean error is within three of its standard errors
    assert (np.abs(errors.mean(0)) < 3 * errors.std(0) / np.sqrt(N_DEPLOYMENTS)).all(), errors.mean(0)


def test_one_stratum_has_the_interval_of_jeffreys() -> None:
    found = estimate_share([StratumCounts(1, 10**9, 20, 3)])
    assert found.value == 3 / 20
    np.testing.assert_allclose(found[1:], beta(3.5, 17.5).ppf([0.025, 0.975]), rtol=1e-6)
    assert estimate_share([StratumCounts(1, 10**9, 20, 0)]).low == 0
    assert estimate_share([StratumCounts(1, 10**9, 20, 20)]).high == 1


def test_strata_are_weighted_by_their_windows() -> None:
    strata = [StratumCounts(BELOW, 800, 10, 1), StratumCounts(1, 150, 10, 5), StratumCounts(2, 50, 10, 9)]
    density, precision = density_and_precision(strata)
    assert density.value == pytest.approx((80 + 75 + 45) / 1000)
    assert precision.value == pytest.approx((75 + 45) / 200)
    assert density.low < density.value < density.high


def test_interval_narrows_with_verified_windows() -> None:
    widths = []
    for n in (10, 20, 50, 100):
        found = estimate_share([StratumCounts(1, 100, n, n // 2)])
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True) and widths[-1] == 0


def test_nothing_is_said_where_a_stratum_has_no_verdict() -> None:
    assert np.isnan(estimate_share([StratumCounts(0, 10, 0, 0), StratumCounts(1, 10, 5, 5)]).value)
    assert np.isnan(estimate_share([]).value)
    assert estimate_share([StratumCounts(0, 0, 0, 0), StratumCounts(1, 10, 5, 5)]).value == 1
