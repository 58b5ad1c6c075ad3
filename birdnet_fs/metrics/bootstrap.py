"""Bootstrap confidence intervals of metrics, from draws of whole recordings or individuals.

Source: Davison & Hinkley 1997, "Bootstrap Methods and their Application", section 3.8 (hierarchical data).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, generator


@dataclass(frozen=True)
class Interval:
    """A bootstrap confidence interval.

    Attributes:
        value: The metric on all rows.
        low: Lower end; nan where fewer than two groups leave it undefined.
        high: Upper end; nan likewise.
    """

    value: float
    low: float
    high: float


def bootstrap(
    metric: Callable[[NDArray, NDArray], float],
    targets: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    *,
    n_draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Confidence interval of a metric, from draws of whole groups with replacement (percentile bootstrap).

    Segments of one recording are correlated, so recordings are drawn, not segments: drawing segments gives intervals
    that are far too narrow (Davison & Hinkley 1997, section 3.8).

    Args:
        metric: (targets, scores) of the drawn rows -> number; draws for which it is nan are left out.
        targets: [n_rows, n_classes].
        scores: [n_rows, n_classes].
        groups: [n_rows], the recording or individual of each row.
        n_draws: Number of draws. Default: 1000.
        seed: Seed of the draws. Default: 0.
        level: Share of the draws inside the interval, 0..1. Default: 0.95.

    Returns:
        The metric on all rows and its interval, widened to hold the metric where classes that drop out of some draws
        shift their mean away from it.

    Raises:
        UserError: Lengths differ.
    """
    targets, scores, groups = np.asarray(targets), np.asarray(scores), np.asarray(groups)
    if not len(targets) == len(scores) == len(groups):
        raise UserError(
            "targets, scores and groups must have the same number of rows. "
            f"Received: {len(targets)}, {len(scores)} and {len(groups)}"
        )
    value = float(metric(targets, scores))
    _, group = np.unique(groups, return_inverse=True)
    order = np.argsort(group, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(group))[:-1]) if len(order) else []
    if len(members) < 2:
        return Interval(value, float("nan"), float("nan"))
    rng = generator(seed, Stream.BOOTSTRAP)
    draws = []
    for _ in range(n_draws):
        rows = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        draws.append(float(metric(targets[rows], scores[rows])))
    found = np.array(draws)[~np.isnan(draws)]
    if not len(found) or np.isnan(value):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, min(float(low), value), max(float(high), value))
