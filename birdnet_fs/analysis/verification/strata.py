"""Windows of a class divided into strata by score, and a random sample of each stratum.

The strata are the bins of the paper, whose edges are quantiles of the scores: the lower half of the detected windows,
the lower half of the rest, and so on, the last bin being the rest. Windows that the tables do not hold, because their
score was below the threshold of the analysis, are a stratum of their own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BELOW = 0  # number of the stratum of windows without a detection of the class
N_BINS = 4


@dataclass(frozen=True)
class Stratum:
    """A stratum.

    Attributes:
        number: BELOW, or 1, 2, ... by rising score.
        low: Lowest score in it; 0 for BELOW.
        high: Highest score in it; 0 for BELOW.
        n_windows: Number of windows in it.
        drawn: int64 [n_drawn], places of the windows that were drawn: numbers of detections, or of windows without one.
    """

    number: int
    low: float
    high: float
    n_windows: int
    drawn: NDArray[np.int64]


def draw_strata(
    scores: NDArray[np.float64], n_below: int, n_wanted: int, rng: np.random.Generator, n_bins: int = N_BINS
) -> list[Stratum]:
    """Divide the windows of a class and draw from each stratum without replacement.

    Args:
        scores: float64 [n_detected], scores of the windows with a detection.
        n_below: Windows without one.
        n_wanted: Windows to draw, as equally from the strata as their sizes allow.
        rng: Random numbers.
        n_bins: Bins of the detected windows, 1 or more. Default: 4.

    Returns:
        Strata that hold windows.
    """
    bins: list[NDArray[np.int64]] = []
    rest = np.argsort(scores, kind="stable")
    while len(rest) and len(bins) < n_bins - 1:
        half = len(rest) // 2
        if half == 0:
            break
        bins.append(rest[:half])
        rest = rest[half:]
    if len(rest):
        bins.append(rest)
    sizes = np.array([n_below, *map(len, bins)])
    counts = allocate(sizes, n_wanted)
    strata = []
    if n_below:
        places = np.sort(rng.choice(n_below, counts[0], replace=False))
        strata.append(Stratum(BELOW, 0.0, 0.0, n_below, places))
    for number, (rows, count) in enumerate(zip(bins, counts[1:], strict=True), 1):
        drawn = np.sort(rng.choice(rows, count, replace=False))
        low, high = float(scores[rows[0]]), float(scores[rows[-1]])
        strata.append(Stratum(number, low, high, len(rows), drawn.astype(np.int64)))
    return strata


def allocate(sizes: NDArray[np.int64], n_wanted: int) -> NDArray[np.int64]:
    """Divide a number of windows among strata, as equally as their sizes allow; what is over goes to the last ones.

    >>> allocate(np.array([100, 100, 3]), 50).tolist(), allocate(np.array([0, 2, 2]), 50).tolist()
    ([23, 24, 3], [0, 2, 2])
    """
    counts = np.zeros(len(sizes), np.int64)
    left = min(int(n_wanted), int(sizes.sum()))
    while left:
        open_ = np.flatnonzero(counts < sizes)
        share = left // len(open_)
        if share == 0:
            counts[open_[-left:]] += 1
            break
        given = np.minimum(sizes[open_] - counts[open_], share)
        counts[open_] += given
        left -= int(given.sum())
    return counts
