"""The loops of the fast log-mel: frames, FFT, power, bands; then the logarithm, PCEN's running mean and the resize.

Compiled by numba. Eight frames go through one FFT side by side: a row holds number j of each of them, so that the FFT
is arithmetic on whole rows, with nothing to shuffle. Every stage reads and writes the same places (Pease 1968, "An
adaptation of the fast Fourier transform for parallel processing", Journal of the ACM 15(2),
https://doi.org/10.1145/321450.321457). A mel matrix is about 1 % non-zero, so each band is summed over its own bins.
Frames are taken in groups of 64 that stay in the cache.

The compiler makes vector instructions of a loop over a row only where it can tell that rows do not overlap and that
no index is negative: hence flat arrays with rows at constant distances, and unsigned indices.
"""

import functools
import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy import float32, uint32, uint64

LANES = uint64(8)  # frames side by side: one AVX register of float32
ROW = uint64(16)  # complex numbers: the real parts of all lanes, then the imaginary parts
GROUP = uint64(64)  # frames whose bands are summed side by side
_0, _1, _2, _3, _4 = (uint64(i) for i in range(5))
_ROOT = float32(math.sqrt(2.0))
# not "ninf", "nnan": NaN must be found, and infinities mark what has no bands
_OPTIONS: dict[str, Any] = {"fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}, "error_model": "numpy"}
_inlined = numba.njit(**_OPTIONS)  # in one file with what calls them, or the cache would not notice a change


class Kernels(NamedTuple):
    """The compiled loops."""

    energies: Callable[..., None]
    finite: Callable[..., bool]
    log: Callable[..., None]
    exp: Callable[..., None]
    smooth: Callable[..., None]
    rows: Callable[..., None]


def _energies(
    waveform: Any,
    which: Any,
    pad: int,
    reflect: bool,
    hop: int,
    lanes: int,
    window: Any,
    radices: Any,
    place: Any,
    turn: Any,
    begin: Any,
    end: Any,
    offset: Any,
    weights: Any,
    share: Any,
    out: Any,
    energy: Any,
    least: Any,
) -> None:
    """Band energies of the frames number which[:] of `waveform` -> out[which[:], n_mels].

    `pad` samples lie before and after the waveform: zeros, or its reflection. `lanes` is LANES: the compiler would
    unroll a constant too early. For `radices`, `place` and `turn` see `Plan`. Band m is the sum of
    weights[offset[m] + j] * 4 |bin begin[m] + j| ** 2. energy[which[:]] becomes the sum of squares of a frame (some
    of it counted twice), least[which[:]] the smallest of its bands times `share`.
    """
    n_fft, n_lanes, n_group = window.shape[0], np.int64(LANES), np.int64(GROUP)
    x, y = np.empty(n_fft * n_lanes, window.dtype), np.empty(n_fft * n_lanes, window.dtype)
    apart = np.zeros(n_fft * n_lanes, waveform.dtype)
    power = np.empty((n_fft // 2 + 2) * n_group, np.float32)
    bands = np.empty((begin.shape[0], n_group), np.float32)
    for first in range(0, which.shape[0], n_group):
        group = which[first : first + n_group]
        for at in range(0, group.shape[0], n_lanes):
            block = group[at : at + n_lanes]
            n, start, stop = block.shape[0], block[0] * hop - pad, block[-1] * hop - pad + n_fft
            neighbors = n == n_lanes and block[-1] - block[0] == n - 1
            if neighbors and start >= 0 and stop <= waveform.shape[0]:
                _frames(waveform, uint64(start), uint64(hop), window, x)
            else:  # at the ends of the waveform, or frames apart
                for t in range(n):
                    _samples(waveform, block[t] * hop - pad, reflect, apart[t * n_fft : (t + 1) * n_fft])
                _frames(apart, _0, uint64(n_fft), window, x)
            _power(_fft(x, y, radices, turn, lanes), place, turn, uint64(at), power, lanes)
        _bands(power, begin, end, offset, weights, bands, uint64(group.shape[0]))
        _energy(power, group, energy)
        _spread(bands, share, group, out, least)


@_inlined
def _samples(waveform: Any, start: int, reflect: bool, out: Any) -> None:
    """Samples from number `start` on; those outside are zeros or reflected."""
    n = waveform.shape[0]
    if start >= 0 and start + out.shape[0] <= n:
        out[:] = waveform[start : start + out.shape[0]]
        return
    for j in range(out.shape[0]):
        q = start + j
        if reflect:
            q = -q if q < 0 else q
            q = 2 * n - 2 - q if q >= n else q
        out[j] = waveform[q] if 0 <= q < n else 0


@_inlined
def _frames(source: Any, begin: int, hop: int, window: Any, x: Any) -> None:
    """Sample j of each of eight frames times window[j] -> x: even ones are real parts, odd ones imaginary parts."""
    for j in range(uint64(window.shape[0])):
        for t in range(LANES):
            x[j * LANES + t] = window[j] * source[begin + t * hop + j]


@_inlined
def _fft(x: Any, y: Any, radices: Any, turn: Any, lanes: int) -> Any:
    """FFT of the n complex rows of `x`; returns x or y, where bin k lies in row place[k].

    A stage of radix r takes rows j, j + n / r, j + 2 n / r, ... through an FFT of length r to rows r j, r j + 1, ...;
    number k of these is turned by exp(-2 pi i j k / n), j rounded down to a multiple of the radices done.
    """
    done = _1
    for radix in radices:
        if radix == _4:
            _fourths(x, y, turn, done, lanes)
        elif radix == _2:
            _halves(x, y, turn, done, lanes)
        else:
            _parts(x, y, radix, turn, done, lanes)
        done *= radix
        x, y = y, x
    return x


@_inlined
def _fourths(x: Any, y: Any, turn: Any, done: int, lanes: int) -> None:
    quarter = uint64(x.shape[0]) // _4
    for first in range(_0, quarter, done * ROW):
        k = _2 * first // ROW  # turns are given for n_fft = 2 n
        cos1, sin1 = turn[k, 0], turn[k, 1]
        cos2, sin2 = turn[_2 * k, 0], turn[_2 * k, 1]
        cos3, sin3 = turn[_3 * k, 0], turn[_3 * k, 1]
        for a in range(first, first + done * ROW, ROW):
            b, c, d, to = a + quarter, a + _2 * quarter, a + _3 * quarter, _4 * a
            for t in range(lanes):
                i = t + LANES
                p_re, p_im = x[a + t] + x[c + t], x[a + i] + x[c + i]
                q_re, q_im = x[b + t] + x[d + t], x[b + i] + x[d + i]
                r_re, r_im = x[a + t] - x[c + t], x[a + i] - x[c + i]
                s_re, s_im = x[b + t] - x[d + t], x[b + i] - x[d + i]
                y[to + t], y[to + i] = p_re + q_re, p_im + q_im
                re, im = r_re + s_im, r_im - s_re
                y[to + ROW + t], y[to + ROW + i] = re * cos1 - im * sin1, re * sin1 + im * cos1
                re, im = p_re - q_re, p_im - q_im
                y[to + _2 * ROW + t], y[to + _2 * ROW + i] = re * cos2 - im * sin2, re * sin2 + im * cos2
                re, im = r_re - s_im, r_im + s_re
                y[to + _3 * ROW + t], y[to + _3 * ROW + i] = re * cos3 - im * sin3, re * sin3 + im * cos3


@_inlined
def _halves(x: Any, y: Any, turn: Any, done: int, lanes: int) -> None:
    half = uint64(x.shape[0]) // _2
    for first in range(_0, half, done * ROW):
        k = _2 * first // ROW
        cos, sin = turn[k, 0], turn[k, 1]
        for a in range(first, first + done * ROW, ROW):
            b, to = a + half, _2 * a
            for t in range(lanes):
                i = t + LANES
                re, im = x[a + t] - x[b + t], x[a + i] - x[b + i]
                y[to + t], y[to + i] = x[a + t] + x[b + t], x[a + i] + x[b + i]
                y[to + ROW + t], y[to + ROW + i] = re * cos - im * sin, re * sin + im * cos


@_inlined
def _parts(x: Any, y: Any, radix: int, turn: Any, done: int, lanes: int) -> None:
    """Any radix, by the sums of its definition."""
    n_fft, part = uint64(turn.shape[0]), uint64(x.shape[0]) // radix
    y[:] = 0
    for a in range(_0, part, ROW):
        j = a // ROW // done * done
        for k in range(radix):
            to = radix * a + k * ROW
            for q in range(radix):
                at, step = a + q * part, k * (_2 * j + n_fft // radix * q) % n_fft
                cos, sin = turn[step, 0], turn[step, 1]
                for t in range(lanes):
                    i = t + LANES
                    y[to + t] += x[at + t] * cos - x[at + i] * sin
                    y[to + i] += x[at + t] * sin + x[at + i] * cos


@_inlined
def _power(z: Any, place: Any, turn: Any, at: int, power: Any, lanes: int) -> None:
    """4 |bin k| ** 2 of the real frames -> row 2 k of `power`, from column `at` on; bin n_fft / 2 - k -> row 2 k + 1.

    Both follow from bins k and n_fft / 2 - k of `z`, the FFT of even samples + i times odd samples.
    """
    half = uint64(place.shape[0]) - _1
    for k in range(half // _2 + _1):
        a, b, to = place[k] * ROW, place[half - k] * ROW, _2 * k * GROUP + at
        cos, sin = turn[k, 0], turn[k, 1]
        for t in range(lanes):
            i = t + LANES
            even_re, even_im = z[a + t] + z[b + t], z[a + i] - z[b + i]
            odd_re, odd_im = z[a + i] + z[b + i], z[b + t] - z[a + t]
            re, im = odd_re * cos - odd_im * sin, odd_re * sin + odd_im * cos
            power[to + t] = _square(even_re + re) + _square(even_im + im)
            power[to + GROUP + t] = _square(even_re - re) + _square(even_im - im)


@_inlined
def _square(x: float) -> float:
    return x * x


@_inlined
def _bands(power: Any, begin: Any, end: Any, offset: Any, weights: Any, bands: Any, n: int) -> None:
    """Bands of n frames from the rows of `power`."""
    half = uint64(power.shape[0]) // GROUP - _2
    for m in range(begin.shape[0]):
        bands[m] = 0
        for j in range(end[m] - begin[m]):
            weight, k = weights[offset[m] + j], uint64(begin[m] + j)
            row = _2 * k * GROUP if k <= half // _2 else (_2 * (half - k) + _1) * GROUP
            for t in range(n):
                bands[m, t] += weight * power[row + t]


@_inlined
def _energy(power: Any, group: Any, energy: Any) -> None:
    """Sum of squares of each frame, by Parseval's theorem; the first, the last and the middle bin count twice."""
    n, half = uint64(group.shape[0]), uint64(power.shape[0]) // GROUP - _2
    total = np.zeros(n, np.float32)
    for row in range(_0, (half // _2 + _1) * _2 * GROUP, GROUP):
        for t in range(n):
            total[t] += power[row + t]
    for t in range(n):
        energy[group[t]] = total[t] / float32(_4 * half)


@_inlined
def _spread(bands: Any, share: Any, group: Any, out: Any, least: Any) -> None:
    """Bands of a group -> the rows of its frames, and the least of each over its share."""
    for t in range(uint64(group.shape[0])):
        frame, lowest = group[t], float32(np.inf)
        for m in range(uint64(share.shape[0])):
            band = bands[m, t]
            out[frame, m] = band
            lowest = band * share[m] if band * share[m] < lowest else lowest  # an empty band gives 0 * inf: NaN
        least[frame] = lowest


def _finite(x: Any) -> bool:
    """Whether no sample is NaN or infinite."""
    nothing = x[0] * 0
    for j in range(x.shape[0]):
        nothing += x[j] * 0
    return nothing == 0


def _log(x: Any, floor: float, scale: float) -> None:
    """x = scale * ln(max(x, floor)) in place, within 5e-7 of it or of 1 dB; `floor` is a normal number above 0.

    A float is m * 2 ** e with m in 1..2, and ln(m / sqrt(2)) = 2 artanh(s) with s = (m - sqrt(2)) / (m + sqrt(2)), of
    which five terms of the series leave less than 1e-9. numpy's log takes six times as long.
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
    """x = e ** x in place, within 2e-7 of it and one float32 step of x; within float32's range of normal numbers.

    e ** x = 2 ** n * e ** r with |r| <= ln(2) / 2, where the series to the seventh power leaves 5e-9.
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


def _smooth(x: Any, rate: float, add: float, mean: Any, out: Any) -> None:
    """The running mean of each column of x [n_frames, n_mels] plus `add` -> out; `mean` [n_mels] is the one before."""
    step = float32(rate)
    for t in range(uint64(x.shape[0])):
        for m in range(uint64(x.shape[1])):
            mean[m] += step * (x[t, m] - mean[m])
            out[t, m] = mean[m] + float32(add)


def _rows(lines: Any, begin: Any, end: Any, offset: Any, weights: Any, out: Any) -> None:
    """Row m of out [n_out, width] is the sum of weights[offset[m] + j] * lines[begin[m] + j]."""
    width = lines.shape[1]
    for m in range(begin.shape[0]):
        out[m] = 0
        for j in range(end[m] - begin[m]):
            weight, k = weights[offset[m] + j], begin[m] + j
            for t in range(width):
                out[m, t] += weight * lines[k, t]


class Plan(NamedTuple):
    """What the FFT of real frames of n_fft samples needs."""

    radices: np.ndarray  # uint64, their product is n_fft / 2
    place: np.ndarray  # uint64 [n_fft / 2 + 1], row of bin k; the last bin is the first again
    turn: np.ndarray  # [n_fft, 2], cosine and sine of -2 pi k / n_fft


def fft_plan(n_fft: int, dtype: str) -> Plan:
    """For any even `n_fft`; the larger its largest prime factor, the slower."""
    left, radices = n_fft // 2, []
    for radix in (4, 2, *range(3, n_fft, 2)):
        while left % radix == 0:
            radices.append(radix)
            left //= radix
    number = np.arange(n_fft // 2 + 1) % (n_fft // 2)
    place = np.zeros_like(number)
    for radix in radices:
        place, number = place * radix + number % radix, number // radix
    angle = -2.0 * np.pi / n_fft * np.arange(n_fft)
    turn = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(dtype)
    return Plan(np.array(radices, np.uint64), place.astype(np.uint64), turn)


_lock = threading.Lock()


def kernels() -> Kernels:
    """The compiled loops: from numba's cache on disk where one can be kept, else compiled for this process."""
    with _lock:
        return _compiled()


@functools.lru_cache(maxsize=1)
def _compiled() -> Kernels:
    n, flag, index, unsigned = numba.int64, numba.boolean, numba.int64[::1], numba.uint64[::1]
    f4, f8 = numba.float32, numba.float64
    single, double = (numba.types.Array(f, 1, "C", readonly=True) for f in (f4, f8))  # may be written as well
    banded = (index, index, index, f4[::1])
    energies = [
        numba.void(
            waveform, index, n, flag, n, numba.uint64,
            real[::1], unsigned, unsigned, real[:, ::1], *banded, f4[::1], f4[:, ::1], f4[::1], f4[::1],
        )
        for waveform, real in ((single, f4), (single, f8), (double, f8))
    ]  # fmt: skip
    return Kernels(
        _compile(_energies, energies),
        _compile(_finite, [flag(single), flag(double)]),
        _compile(_log, [numba.void(f4[::1], f8, f8)]),
        _compile(_exp, [numba.void(f4[::1])]),
        _compile(_smooth, [numba.void(f4[:, ::1], f8, f8, f4[::1], f4[:, ::1])]),
        _compile(_rows, [numba.void(f4[:, ::1], *banded, f4[:, ::1])]),
    )


def _compile(function: Callable[..., Any], signatures: list[Any]) -> Callable[..., Any]:
    try:
        return numba.njit(signatures, cache=True, nogil=True, **_OPTIONS)(function)
    except (RuntimeError, OSError):  # no folder to keep the cache in, or a full disk
        return numba.njit(signatures, nogil=True, **_OPTIONS)(function)
