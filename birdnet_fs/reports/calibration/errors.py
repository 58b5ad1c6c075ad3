"""Calibration errors and the bins of a reliability diagram as JSON values."""

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from birdnet_fs.metrics.calibration_error import calibration_summary, reliability_bins


def calibration_numbers(
    targets: ArrayLike, probabilities: ArrayLike, groups: Sequence[object], *, seed: int = 0
) -> dict[str, Any]:
    """Calibration errors and reliability.

    Args:
        targets: [n, n_classes], 0 or 1.
        probabilities: [n, n_classes] in 0..1; what lies outside, as a rank may, belongs to the first or last bin.
        groups: [n], recording of each row.
        seed: Seed of the bootstrap. Default: 0.

    Returns:
        errors: "all", "common" and "rare" -> ece, over, under and ece_ci [low, high], None where undefined; bins: [mean
        probability, share of positives, number of rows] of each bin that is not empty, over all classes.
    """
    found = calibration_summary(targets, probabilities, groups, seed=seed)
    errors = {
        name: {
            **{part: _plain(interval.value) for part, interval in parts.items()},
            "ece_ci": [_plain(parts["ece"].low), _plain(parts["ece"].high)],
        }
        for name, parts in found.items()
    }
    bins = reliability_bins(targets, probabilities)
    sums = [each.sum(axis=0).tolist() for each in (bins.n, bins.probability, bins.positives)]
    shown = [[p / n, k / n, int(n)] for n, p, k in zip(*sums, strict=True) if n]
    return {"errors": errors, "bins": shown}


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
