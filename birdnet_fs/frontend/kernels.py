"""Compiled loops of the fast log-mel features: band energies, logarithm, exponential, running mean, resize.

numba compiles them on first use and caches the result on disk. The loop for band energies is in energy_kernel.py.
"""

import functools
import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy import float32, uint32, uint64

from birdnet_fs.frontend.energy_kernel import OPTIONS, energy_loop

_ROOT = float32(math.sqrt(2.0))


class Kernels(NamedTuple):
    """The compiled loops; see the functions of the same names."""

    energies: Callable[..., None]  # energy_kernel.energy_loop
    finite: Callable[..., bool]
    log: Callable[..., None]
    exp: Callable[..., None]
    running_mean: Callable[..., None]
    banded_matmul: Callable[..., None]


def _finite(x: Any) -> bool:
    """Whether all samples of x [n_samples] are finite."""
    nothing = x[0] * 0
    for j in range(x.shape[0]):
        nothing += x[j] * 0
    return nothing == 0


def _log(x: Any, floor: float, scale: float) -> None:
    """Replace x [n] by scale * ln(max(x, floor)), with a relative error of 5e-7 (absolute below 1).

    `floor` is a normal float32 above 0. A float is m * 2 ** e with m in 1..2, and ln(m / sqrt(2)) = 2 artanh(s) with
    s = (m - sqrt(2)) / (m + sqrt(2)); five terms of its series leave an error below 1e-9. numpy's log takes six times
    as long.
    """
    bits = x.view(np.uint32)
    octave, twice = float32(scale * math.log(2.0)), float32(2.0 * scale)
    for j in range(x.shape[0]):
        x[j] = max(x[j], float32(floor))
        exponent = float32(np.int32(bits[j] >> uint32(23))) - float32(126.5)  # that of x / sqrt(2)
        bits[j] = (bits[j] & uint32(0x7FFFFF)) | uint32(0x3F800000)
        s = (x[j] - _ROOT) / (x[j] + _ROOT)
        r = s * s
        series = float32(1) + r * (float32(1 / 3) + r * (float32(1 / 5) + r * (float32(1 / 7) + r * float32(1 / 9))))
        x[j] = octave * exponent + twice * s * series


def _exp(x: Any) -> None:
    """Replace x [n] by e ** x, with a relative error of 2e-7 plus that of one float32 step of x.

    Results are clipped to the normal numbers of float32. e ** x = 2 ** n * e ** r with |r| <= ln(2) / 2, for which the
    series up to the seventh power leaves an error of 5e-9.
    """
    bits = x.view(np.uint32)
    for j in range(x.shape[0]):
        y = min(max(x[j], float32(-87.0)), float32(88.0))
        n = math.floor(y * float32(1.0 / math.log(2.0)) + float32(0.5))
        r = y - n * float32(math.log(2.0))
        series = float32(1 / 120) + r * (float32(1 / 720) + r * float32(1 / 5040))
        series = float32(1) + r * (float32(1 / 2) + r * (float32(1 / 6) + r * (float32(1 / 24) + r * series)))
        bits[j] = uint32(np.int32(n) + np.int32(127)) << uint32(23)
        x[j] *= float32(1) + r * series


def _running_mean(x: Any, rate: float, add: float, mean: Any, out: Any) -> None:
    """Write the running mean of each column of x [n_frames, n_mels] plus `add` to `out`.

    `mean` [n_mels] is the mean before the first frame, and is overwritten with that of the last.
    """
    step = float32(rate)
    for t in range(uint64(x.shape[0])):
        for m in range(uint64(x.shape[1])):
            mean[m] += step * (x[t, m] - mean[m])
            out[t, m] = mean[m] + float32(add)


def _banded_matmul(lines: Any, begin: Any, end: Any, offset: Any, weights: Any, out: Any) -> None:
    """Multiply a banded matrix by lines [n_in, width].

    Row m of out [n_out, width] is the sum over j of weights[offset[m] + j] * lines[begin[m] + j], up to end[m].
    """
    width = lines.shape[1]
    for m in range(begin.shape[0]):
        out[m] = 0
        for j in range(end[m] - begin[m]):
            weight, k = weights[offset[m] + j], begin[m] + j
            for t in range(width):
                out[m, t] += weight * lines[k, t]


_lock = threading.Lock()


def kernels() -> Kernels:
    """The compiled loops, from numba's cache on disk where it is writable; otherwise compiled for this process."""
    with _lock:
        return _compiled()


@functools.lru_cache(maxsize=1)
def _compiled() -> Kernels:
    n, flag, index, unsigned = numba.int64, numba.boolean, numba.int64[::1], numba.uint64[::1]
    f4, f8 = numba.float32, numba.float64
    # readonly=True accepts writable arrays as well
    single, double = (numba.types.Array(f, 1, "C", readonly=True) for f in (f4, f8))
    banded = (index, index, index, f4[::1])
    energies = [
        numba.void(
            waveform, index, n, flag, n, numba.uint64,
            real[::1], unsigned, unsigned, real[:, ::1], *banded, f4[::1], f4[:, ::1], f4[::1], f4[::1],
        )
        for waveform, real in ((single, f4), (double, f8))
    ]  # fmt: skip
    return Kernels(
        compile_cached(energy_loop, energies),
        compile_cached(_finite, [flag(single), flag(double)]),
        compile_cached(_log, [numba.void(f4[::1], f8, f8)]),
        compile_cached(_exp, [numba.void(f4[::1])]),
        compile_cached(_running_mean, [numba.void(f4[:, ::1], f8, f8, f4[::1], f4[:, ::1])]),
        compile_cached(_banded_matmul, [numba.void(f4[:, ::1], *banded, f4[:, ::1])]),
    )


def compile_cached(function: Callable[..., Any], signatures: list[Any]) -> Callable[..., Any]:
    """Compile a loop with numba, or load it from the cache on disk where that is writable.

    Args:
        function: The loop.
        signatures: Types of its arguments, one or more.

    Returns:
        The compiled loop, which releases the interpreter lock.
    """
    try:
        return numba.njit(signatures, cache=True, nogil=True, **OPTIONS)(function)
    except (RuntimeError, OSError):  # the cache folder is not writable, or the disk is full
        return numba.njit(signatures, nogil=True, **OPTIONS)(function)
