"""Per-channel energy normalization (PCEN): the energy of a band over its own running mean, then a root.

Wang et al. 2017, "Trainable frontend for robust and far-field keyword spotting" (https://arxiv.org/abs/1607.05666);
Lostanlen et al. 2019, "Per-channel energy normalization: why and how" (IEEE Signal Processing Letters 26(1),
https://doi.org/10.1109/LSP.2018.2878620), which shows what the settings do to sounds outdoors. Formula, defaults, the
rate from the time constant and the mean's start (`pcen_start="one"`) are those of `librosa.pcen(pcen_scale * E)` with E
the band energies (powers).

librosa's start is small beside any sound at the scale it advises, so that the first 0.4 s of a segment come out louder
than the rest; `pcen_start="first"` starts in the steady state of the first frame (LEAF, Zeghidour et al. 2021,
https://arxiv.org/abs/2101.08596).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from birdnet_fs.schema import FrontEnd


class Smoother(NamedTuple):
    """The running mean y[t] = (1 - rate) * y[t - 1] + rate * x[t] as matrix products, float32.

    Two stages, as a product with one matrix would need n_frames ** 2 numbers: frame t is number i of block k, `length`
    frames each. Inside a block y is `within @ x` plus what is left of y before the block, `fade[i]` times it; this is
    `between @ ends` of the blocks' own last means plus `start[k]` times y before the first frame.
    """

    rate: float
    within: np.ndarray  # [length, length], lower triangular
    fade: np.ndarray  # [length]
    between: np.ndarray  # [n_blocks, n_blocks], strictly lower triangular
    start: np.ndarray  # [n_blocks]


def smoother(spec: FrontEnd, n_frames: int) -> Smoother:
    """The running mean of `spec` over `n_frames`."""
    frames = spec.pcen_time_constant_s * spec.sample_rate_hz / spec.hop_length
    rate = 2.0 / (1.0 + math.sqrt(1.0 + 4.0 * frames**2))  # librosa's (sqrt(1 + 4 T^2) - 1) / (2 T^2) without its 0 / 0
    length = math.ceil(math.sqrt(n_frames))
    n_blocks = -(-n_frames // length)
    within = _powers(rate, np.subtract.outer(np.arange(length), np.arange(length)))
    between = _powers(rate, length * (np.subtract.outer(np.arange(n_blocks), np.arange(n_blocks)) - 1))
    return Smoother(
        rate=rate,
        within=(rate * within).astype(np.float32),
        fade=_powers(rate, np.arange(1, length + 1)),
        between=between,
        start=_powers(rate, length * np.arange(n_blocks)),
    )


def _powers(rate: float, exponent: np.ndarray) -> np.ndarray:
    """(1 - rate) ** exponent, 0 where the exponent is negative, float32 without subnormal numbers, which are slow."""
    powers = np.where(exponent < 0, 0.0, (1.0 - rate) ** np.maximum(exponent, 0).astype(np.float64))
    return np.where(powers < np.finfo(np.float32).tiny, 0.0, powers).astype(np.float32)


def pcen(x: Any, spec: FrontEnd, smooth: Smoother, ops: Any) -> Any:
    """Band energies [batch, n_frames, n_mels] -> PCEN of the same shape, 0 or more; `ops` as in `definition.finish`.

    Written with exp and log alone, which every runtime has; silence is exactly 0.
    """
    x = ops.multiply(x, spec.pcen_scale)
    level = _running_mean(x, spec, smooth, ops) + spec.pcen_eps
    x = x * ops.exp(ops.multiply(ops.log(level), -spec.pcen_gain))
    if spec.pcen_power == 0:
        return ops.log(x + 1.0)
    x = ops.log(ops.multiply(x, 1.0 / spec.pcen_bias) + 1.0)
    return ops.multiply(ops.exp(ops.multiply(x, spec.pcen_power)) - 1.0, spec.pcen_bias**spec.pcen_power)


def _running_mean(x: Any, spec: FrontEnd, smooth: Smoother, ops: Any) -> Any:
    """M of x [batch, n_frames, n_mels]; the products are of two matrices each, with the constant on the right."""
    n_frames, n_bands = int(x.shape[1]), int(x.shape[2])
    n_blocks, length = len(smooth.between), len(smooth.within)
    x = ops.transpose(x, (0, 2, 1))
    before = ops.reshape(x[:, :, :1], (-1, 1))
    if spec.pcen_start == "one":
        before = before * 0.0 + 1.0
    if missing := n_blocks * length - n_frames:
        x = ops.pad(x, ((0, 0), (0, 0), (0, missing)))
    inside = ops.matmul(ops.reshape(x, (-1, length)), smooth.within.T)  # a row for each block of each band
    ends = ops.reshape(inside[:, length - 1 :], (-1, n_blocks))  # a row for each band
    carried = ops.matmul(ends, smooth.between.T) + ops.matmul(before, smooth.start[None])
    x = inside + ops.matmul(ops.reshape(carried, (-1, 1)), smooth.fade[None])
    x = ops.reshape(x, (-1, n_bands, n_blocks * length))[:, :, :n_frames]
    return ops.transpose(x, (0, 2, 1))
