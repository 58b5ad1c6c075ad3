"""Per-channel energy normalization (PCEN): the energy of a band divided by its running mean, then a root.

Wang et al. 2017, "Trainable frontend for robust and far-field keyword spotting" (https://arxiv.org/abs/1607.05666);
Lostanlen et al. 2019, "Per-channel energy normalization: why and how" (IEEE Signal Processing Letters 26(1),
https://doi.org/10.1109/LSP.2018.2878620), on the effect of the settings on outdoor recordings. Formula, defaults, the
rate from the time constant and the initial mean (`pcen_start="one"`) are those of `librosa.pcen(pcen_scale * E)` with E
the band energies (powers).

librosa's initial mean is small compared with any sound at the scale it recommends, so that the first 0.4 s of a segment
are louder than the rest; `pcen_start="first"` starts in the steady state of the first frame (LEAF, Zeghidour et al.
2021, https://arxiv.org/abs/2101.08596).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from birdnet_fs.schema import FrontEnd


class Smoother(NamedTuple):
    """The running mean y[t] = (1 - rate) * y[t - 1] + rate * x[t] as matrix products, float32.

    The product has two stages, since a single matrix would need n_frames ** 2 numbers. Frames are divided into blocks
    of `length`. In frame i of block k, y is `within @ x` of the block plus `fade[i]` times y at the end of the previous
    block. The latter is `between @ ends`, where `ends` are the last values of `within @ x` of all blocks, plus
    `start[k]` times y before the first frame.
    """

    rate: float
    within: np.ndarray  # [length, length], lower triangular
    fade: np.ndarray  # [length]
    between: np.ndarray  # [n_blocks, n_blocks], strictly lower triangular
    start: np.ndarray  # [n_blocks]


def smoother(spec: FrontEnd, n_frames: int) -> Smoother:
    """Matrices of the running mean.

    Args:
        spec: The front-end.
        n_frames: Number of frames.

    Returns:
        Constants for `pcen`, arrays as described in `Smoother`.
    """
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
    """(1 - rate) ** exponent, and 0 for negative exponents, as float32; subnormal numbers, which are slow, become 0."""
    powers = np.where(exponent < 0, 0.0, (1.0 - rate) ** np.maximum(exponent, 0).astype(np.float64))
    return np.where(powers < np.finfo(np.float32).tiny, 0.0, powers).astype(np.float32)


def pcen(x: Any, spec: FrontEnd, smooth: Smoother, ops: Any) -> Any:
    """Apply PCEN to band energies.

    Powers are computed with exp and log, which every runtime has. Silence gives exactly 0.

    Args:
        x: Band energies [batch, n_frames, n_mels]; it may be overwritten.
        spec: The front-end.
        smooth: Running mean for n_frames.
        ops: Array namespace as in `definition.apply_steps`.

    Returns:
        [batch, n_frames, n_mels], 0 or more.
    """
    x = ops.multiply(x, spec.pcen_scale)
    level = _running_mean(x, spec, smooth, ops) + spec.pcen_eps
    x = x * ops.exp(ops.multiply(ops.log(level), -spec.pcen_gain))
    if spec.pcen_power == 0:
        return ops.log(x + 1.0)
    x = ops.log(ops.multiply(x, 1.0 / spec.pcen_bias) + 1.0)
    return ops.multiply(ops.exp(ops.multiply(x, spec.pcen_power)) - 1.0, spec.pcen_bias**spec.pcen_power)


def _running_mean(x: Any, spec: FrontEnd, smooth: Smoother, ops: Any) -> Any:
    """Running mean of x [batch, n_frames, n_mels], by products of two matrices with the constant one on the right."""
    n_frames, n_bands = int(x.shape[1]), int(x.shape[2])
    n_blocks, length = len(smooth.between), len(smooth.within)
    x = ops.transpose(x, (0, 2, 1))
    before = ops.reshape(x[:, :, :1], (-1, 1))
    if spec.pcen_start == "one":
        before = before * 0.0 + 1.0
    if missing := n_blocks * length - n_frames:
        x = ops.pad(x, ((0, 0), (0, 0), (0, missing)))
    inside = ops.matmul(ops.reshape(x, (-1, length)), smooth.within.T)  # one row per block of each band
    ends = ops.reshape(inside[:, length - 1 :], (-1, n_blocks))  # one row per band
    carried = ops.matmul(ends, smooth.between.T) + ops.matmul(before, smooth.start[None])
    x = inside + ops.matmul(ops.reshape(carried, (-1, 1)), smooth.fade[None])
    x = ops.reshape(x, (-1, n_bands, n_blocks * length))[:, :, :n_frames]
    return ops.transpose(x, (0, 2, 1))
