"""Statistics of decoded samples: range, invalid samples, and channels that cancel each other."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

BAD_LEVEL = 2.0**31  # absolute value of invalid samples: beyond 32-bit integers stored as float
ANTIPHASE = 0.1  # power of the channel mean relative to independent channels; below it channels cancel each other


@dataclass
class SampleStatistics:
    """Statistics of the decoded samples; complete after the last block."""

    n_samples: int = 0  # per channel
    n_bad: int = 0  # NaN, infinite or implausibly large samples, which are set to zero
    low: float = math.inf  # smallest sample
    high: float = -math.inf  # largest sample
    power: Any = 0.0  # float64 [n_channels], sum of squares of each channel
    mean_power: float = 0.0  # sum of squares of the mean over channels
    error: str = ""  # reason why decoding stopped early
    channel: int | None = None  # channel to use instead of the mean over channels

    @property
    def antiphase(self) -> bool:
        """Whether the channels cancel each other in their mean."""
        n = np.size(self.power)
        return n > 1 and self.mean_power < ANTIPHASE * float(np.sum(self.power)) / n**2

    @property
    def louder(self) -> int:
        """Index of the channel with the largest power."""
        return int(np.argmax(self.power))


def mono_block(block: np.ndarray, tally: SampleStatistics) -> np.ndarray:
    """Average the channels of one block and update the statistics.

    Args:
        block: float32 [n, n_channels].
        tally: Statistics to update; its `channel` is used instead of the mean when set.

    Returns:
        float32 [n], with bad samples set to zero.
    """
    low, high = float(block.min()), float(block.max())
    if not (low > -BAD_LEVEL and high < BAD_LEVEL):  # also when NaN
        bad = ~(np.abs(block) < BAD_LEVEL)
        tally.n_bad += int(np.count_nonzero(bad.any(axis=1)))
        block = np.where(bad, np.float32(0), block)
        low, high = float(block.min()), float(block.max())
    tally.n_samples += len(block)
    tally.low, tally.high = min(tally.low, low), max(tally.high, high)
    n_channels = block.shape[1]
    if n_channels == 1:
        return block[:, 0]
    mono = block @ np.full(n_channels, 1 / n_channels, np.float32)
    tally.power = tally.power + np.einsum("nc,nc->c", block, block, dtype=np.float64)
    tally.mean_power += float(np.dot(mono, mono))
    return mono if tally.channel is None else np.ascontiguousarray(block[:, tally.channel])
