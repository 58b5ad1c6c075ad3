"""The loops of the fast log-mel: cut windowed frames, gather a power spectrum into bands, resize.

Compiled by numba. They work on blocks of frames that stay in the cache: a mel matrix is about 1 %
non-zero, so a dense product costs more than the FFT, and a whole batch at once spills the cache.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np


class Kernels(NamedTuple):
    """The compiled loops."""

    frames: Callable[..., None]
    bands: Callable[..., None]
    rows: Callable[..., None]


def _frames(waveform: Any, which: Any, pad: int, reflect: bool, hop: int, window: Any, out: Any, energy: Any) -> None:
    """Frames number which[:] of `waveform` times `window` -> out[:, :n_fft] and their sums of squares.

    `pad` samples lie before and after the waveform: zeros, or its reflection.
    """
    n_samples, n_fft = waveform.shape[0], window.shape[0]
    for t in range(which.shape[0]):
        start, total = which[t] * hop - pad, window[0] * 0
        if start >= 0 and start + n_fft <= n_samples:
            for j in range(n_fft):
                value = window[j] * waveform[start + j]
                out[t, j] = value
                total += value * value
        else:
            for j in range(n_fft):
                q = start + j
                if reflect:
                    q = -q if q < 0 else q
                    q = 2 * n_samples - 2 - q if q >= n_samples else q
                value = window[j] * waveform[q] if 0 <= q < n_samples else window[j] * 0
                out[t, j] = value
                total += value * value
        energy[which[t]] = total


def _bands(
    halves: Any,
    which: Any,
    turn: Any,
    begin: Any,
    end: Any,
    offset: Any,
    weights: Any,
    largest: Any,
    power: Any,
    lines: Any,
    out: Any,
    least: Any,
) -> None:
    """FFTs of frames taken as n_fft / 2 complex numbers -> band energies out[which[:]], and how low they reach.

    `halves` [n, >= n_fft] (real, imaginary in turn) is the FFT of x[0] + i x[1], x[2] + i x[3], ...; bin k of the
    real frame follows from its k and n_fft / 2 - k and from `turn` [2, n_bins], the cosine and sine of
    -2 pi k / n_fft. Band m is the sum of weights[offset[m] + j] * |bin begin[m] + j| ** 2; `least` is the
    smallest band energy of a frame over the band's `largest` weight. `power` [n, n_bins] and `lines`
    [n_bins, n] are scratch: every loop runs over neighbouring numbers.
    """
    n, half = which.shape[0], np.uint64(turn.shape[1] - 1)  # unsigned: no test for negative indices in the loop
    low, high = begin.min(), end.max()
    cos, sin = turn[0], turn[1]
    for t in range(n):
        for k in range(np.uint64(max(low, 1)), min(np.uint64(high), half)):
            a, b = np.uint64(2) * k, np.uint64(2) * (half - k)
            even_re, even_im = halves[t, a] + halves[t, b], halves[t, a + np.uint64(1)] - halves[t, b + np.uint64(1)]
            odd_re, odd_im = halves[t, a + np.uint64(1)] + halves[t, b + np.uint64(1)], halves[t, b] - halves[t, a]
            re = even_re + cos[k] * odd_re - sin[k] * odd_im
            im = even_im + cos[k] * odd_im + sin[k] * odd_re
            power[t, k] = np.float32(0.25) * (re * re + im * im)
        power[t, 0] = (halves[t, 0] + halves[t, 1]) ** 2
        power[t, half] = (halves[t, 0] - halves[t, 1]) ** 2
    for k in range(np.uint64(low), np.uint64(high)):
        for t in range(np.uint64(n)):
            lines[k, t] = power[t, k]
    total, lowest = np.empty(n, np.float32), np.full(n, np.float32(np.inf))
    for m in range(begin.shape[0]):
        total[:] = 0
        for j in range(end[m] - begin[m]):
            weight, k = weights[offset[m] + j], begin[m] + j
            for t in range(n):
                total[t] += weight * lines[k, t]
        if end[m] > begin[m]:
            share = np.float32(1) / largest[m]
            for t in range(n):
                lowest[t] = min(lowest[t], total[t] * share)
        for t in range(n):
            out[which[t], m] = total[t]
    for t in range(n):
        least[which[t]] = lowest[t]


def _rows(lines: Any, begin: Any, end: Any, offset: Any, weights: Any, out: Any) -> None:
    """Row m of out [n_out, width] is the sum of weights[offset[m] + j] * lines[begin[m] + j]."""
    width = lines.shape[1]
    for m in range(begin.shape[0]):
        out[m] = 0
        for j in range(end[m] - begin[m]):
            weight, k = weights[offset[m] + j], begin[m] + j
            for t in range(width):
                out[m, t] += weight * lines[k, t]


_lock = threading.Lock()


def kernels() -> Kernels:
    """The compiled loops: from numba's cache on disk where one can be kept, else compiled for this process."""
    with _lock:
        return _compiled()


@functools.lru_cache(maxsize=1)
def _compiled() -> Kernels:
    n, flag, index = numba.int64, numba.boolean, numba.int64[::1]
    f4, f8 = numba.float32, numba.float64
    single, double = (numba.types.Array(f, 1, "C", readonly=True) for f in (f4, f8))  # may be written as well
    frames = [
        numba.void(waveform, index, n, flag, n, window, real[:, ::1], f4[::1])
        for waveform in (single, double)
        for real, window in ((f4, single), (f8, double))
    ]
    banded = (index, index, index, f4[::1])
    rest = (f4[::1], f4[:, ::1], f4[:, ::1], f4[:, ::1], f4[::1])
    bands = [numba.void(real[:, ::1], index, real[:, ::1], *banded, *rest) for real in (f4, f8)]
    rows = [numba.void(f4[:, ::1], *banded, f4[:, ::1])]
    return Kernels(_compile(_frames, frames), _compile(_bands, bands), _compile(_rows, rows))


def _compile(function: Callable[..., None], signatures: list[Any]) -> Callable[..., None]:
    # not "ninf", "nnan": infinities mark frames without bands
    options: dict[str, Any] = {
        "fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"},
        "nogil": True,
        "error_model": "numpy",
    }
    try:
        return numba.njit(signatures, cache=True, **options)(function)
    except (RuntimeError, OSError):  # no folder to keep the cache in, or a full disk
        return numba.njit(signatures, **options)(function)
