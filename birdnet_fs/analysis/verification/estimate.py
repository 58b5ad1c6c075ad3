"""Call density and precision from verified windows: stratified estimator with intervals.

With N windows in a stratum, n of them verified and k of these with a call, the density is the sum over strata of
N k / n, divided by the sum of N (Navine et al. 2024). For the interval, the share of each stratum has the beta-binomial
interval of Jeffreys (L. D. Brown, T. T. Cai, A. DasGupta 2001, Statistical Science 16:101-133), narrowed by
sqrt((N - n) / (N - 1)) because windows are drawn without replacement, so that a stratum that was verified whole has no
uncertainty. The intervals of the strata are combined as G. Zou, W. Huang, X. Zhang 2009 combine those of binomial
proportions (Computational Statistics & Data Analysis 53:1080-1085). Unlike the quantiles of the sum of posteriors, this
covers the truth in the stated share of cases also where few windows of the heaviest stratum hold a call
(tests/analysis/verification/test_estimate.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import beta

from birdnet_fs.analysis.verification.strata import BELOW

LEVEL = 0.95


class StratumCounts(NamedTuple):
    """Verdicts of one stratum.

    Attributes:
        number: Number of the stratum: BELOW, or 1, 2, ... by rising score.
        n_windows: Windows in it.
        n_verified: Windows with the verdict yes or no.
        n_calls: Windows with the verdict yes.
    """

    number: int
    n_windows: int
    n_verified: int
    n_calls: int


class Estimate(NamedTuple):
    """A share of windows, 0..1, and its interval; NaN where it is unknown."""

    value: float
    low: float
    high: float


def estimate_share(strata: Sequence[StratumCounts], *, level: float = LEVEL) -> Estimate:
    """Estimate the share of windows with a call.

    Args:
        strata: Verdicts of every stratum.
        level: Probability of the interval, 0..1. Default: 0.95.

    Returns:
        The share; NaN where a stratum with windows has no verdict or there is no window.

    >>> estimate_share([StratumCounts(0, 10, 10, 1), StratumCounts(1, 10, 10, 7)])
    Estimate(value=0.4, low=0.4, high=0.4)
    """
    counts = np.array([each[1:] for each in strata if each.n_windows], float).reshape(-1, 3)
    windows, verified, calls = counts.T
    if not len(counts) or not verified.all():
        return Estimate(np.nan, np.nan, np.nan)
    shares, weights = calls / verified, windows / windows.sum()
    tail = (1 - level) / 2
    low = np.where(calls == 0, 0.0, beta.ppf(tail, calls + 0.5, verified - calls + 0.5))
    high = np.where(calls == verified, 1.0, beta.ppf(1 - tail, calls + 0.5, verified - calls + 0.5))
    narrowed = np.sqrt((windows - verified) / np.maximum(windows - 1, 1))
    down, up = ((shares - low) * narrowed * weights, (high - shares) * narrowed * weights)
    value = float((windows * calls / verified).sum() / windows.sum())
    reach = (float(np.sqrt(down @ down)), float(np.sqrt(up @ up)))
    return Estimate(value, max(value - reach[0], 0.0), min(value + reach[1], 1.0))


def density_and_precision(strata: Sequence[StratumCounts]) -> tuple[Estimate, Estimate]:
    """Call density over all windows, and precision of those that the tables hold.

    Args:
        strata: Verdicts of every stratum.

    Returns:
        (density, precision).
    """
    return estimate_share(strata), estimate_share([each for each in strata if each.number != BELOW])
