"""Compiled loop for band energies: frames, FFT, power spectrum and bands of one waveform.

Eight frames go through one FFT side by side: row j of an array holds sample or bin j of each of them, so that the FFT
is arithmetic on whole rows without shuffles. Every stage has the same access pattern (Pease 1968, "An adaptation of the
fast Fourier transform for parallel processing", Journal of the ACM 15(2), https://doi.org/10.1145/321450.321457). About
1 % of a mel matrix is non-zero, so each band is summed over its own bins. Frames are processed in groups of 64 that
stay in the CPU cache.

The compiler vectorizes a loop over a row only if it can prove that rows do not overlap and that no index is negative:
hence flat arrays with rows at constant distances, and unsigned indices.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy import float32, uint64

LANES = uint64(8)  # frames in one FFT: one AVX register of float32
ROW = uint64(16)  # floats in a complex row: the real parts of all lanes, then the imaginary parts
GROUP = uint64(64)  # frames whose bands are summed at a time
_0, _1, _2, _3, _4 = (uint64(i) for i in range(5))
# without "ninf" and "nnan": NaN must be detected, and infinities mark empty bands
OPTIONS: dict[str, Any] = {"fastmath": {"nsz", "arcp", "contract", "afn", "reassoc"}, "error_model": "numpy"}
_inlined = numba.njit(**OPTIONS)  # only for functions in the file of their caller: the disk cache checks no other file


def energy_loop(
    waveform: Any,
    indices: Any,
    pad: int,
    reflect: bool,
    hop: int,
    lanes: int,
    window: Any,
    radices: Any,
    bin_row: Any,
    twiddle: Any,
    begin: Any,
    end: Any,
    offset: Any,
    weights: Any,
    share: Any,
    out: Any,
    energy: Any,
    least: Any,
) -> None:
    """Compute the band energies of some frames of a waveform.

    Band m is the sum over j of weights[offset[m] + j] * 4 |bin begin[m] + j| ** 2.

    Args:
        waveform: [n_samples], in the precision of the FFT.
        indices: int64 [n], increasing indices of the frames.
        pad: Number of samples of padding before and after the waveform.
        reflect: Whether the padding is the reflected waveform; otherwise zeros.
        hop: Samples between frames.
        lanes: `LANES`, as an argument because the compiler would unroll a constant too early.
        window: [n_fft], in the precision of the FFT.
        radices: uint64 [n_stages], radices of the FFT, whose product is n_fft / 2.
        bin_row: uint64 [n_fft / 2 + 1], row of each bin in the result; the last bin repeats the first.
        twiddle: [n_fft, 2], cosine and sine of -2 pi k / n_fft.
        begin: int64 [n_mels], first bin of each band.
        end: int64 [n_mels], one past the last bin.
        offset: int64 [n_mels + 1], where the weights of each band begin.
        weights: float32 [n_weights].
        share: float32 [n_mels], 1 / largest weight of each band.
        out: float32 [n_frames, n_mels]; the rows `indices` are written.
        energy: float32 [n_frames]; the sum of squares of each frame, with some bins counted twice, is written.
        least: float32 [n_frames]; the smallest band times `share` of each frame is written.
    """
    n_fft, n_lanes, n_group = window.shape[0], np.int64(LANES), np.int64(GROUP)
    x, y = np.empty(n_fft * n_lanes, window.dtype), np.empty(n_fft * n_lanes, window.dtype)
    gathered = np.zeros(n_fft * n_lanes, waveform.dtype)
    power = np.empty((n_fft // 2 + 2) * n_group, np.float32)
    bands = np.empty((begin.shape[0], n_group), np.float32)
    for first in range(0, indices.shape[0], n_group):
        group = indices[first : first + n_group]
        for at in range(0, group.shape[0], n_lanes):
            block = group[at : at + n_lanes]
            n, start, stop = block.shape[0], block[0] * hop - pad, block[-1] * hop - pad + n_fft
            neighbors = n == n_lanes and block[-1] - block[0] == n - 1
            if neighbors and start >= 0 and stop <= waveform.shape[0]:
                _frames(waveform, uint64(start), uint64(hop), window, x)
            else:  # frames with padding, or frames that are not adjacent
                for t in range(n):
                    _samples(waveform, block[t] * hop - pad, reflect, gathered[t * n_fft : (t + 1) * n_fft])
                _frames(gathered, _0, uint64(n_fft), window, x)
            _power(_fft(x, y, radices, twiddle, lanes), bin_row, twiddle, uint64(at), power, lanes)
        _bands(power, begin, end, offset, weights, bands, uint64(group.shape[0]))
        _energy(power, group, energy)
        _store(bands, share, group, out, least)


@_inlined
def _samples(waveform: Any, start: int, reflect: bool, out: Any) -> None:
    """Copy samples from index `start` on into `out`; those outside the waveform are zeros or reflected."""
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
    """Write sample j of eight frames times window[j] to x: even samples as real parts, odd ones as imaginary parts."""
    for j in range(uint64(window.shape[0])):
        for t in range(LANES):
            x[j * LANES + t] = window[j] * source[begin + t * hop + j]


@_inlined
def _fft(x: Any, y: Any, radices: Any, twiddle: Any, lanes: int) -> Any:
    """FFT of the n complex rows of `x`; returns x or y, where bin k is in row bin_row[k].

    A stage of radix r transforms rows j, j + n / r, j + 2 n / r, ... by an FFT of length r into rows r j, r j + 1, ...;
    output k of these is multiplied by exp(-2 pi i j k / n), with j rounded down to a multiple of the product of the
    previous radices (`done`).
    """
    done = _1
    for radix in radices:
        if radix == _4:
            _radix_4(x, y, twiddle, done, lanes)
        elif radix == _2:
            _radix_2(x, y, twiddle, done, lanes)
        else:
            _any_radix(x, y, radix, twiddle, done, lanes)
        done *= radix
        x, y = y, x
    return x


@_inlined
def _radix_4(x: Any, y: Any, twiddle: Any, done: int, lanes: int) -> None:
    quarter = uint64(x.shape[0]) // _4
    for first in range(_0, quarter, done * ROW):
        k = _2 * first // ROW  # the table of twiddle factors is for n_fft = 2 n
        cos1, sin1 = twiddle[k, 0], twiddle[k, 1]
        cos2, sin2 = twiddle[_2 * k, 0], twiddle[_2 * k, 1]
        cos3, sin3 = twiddle[_3 * k, 0], twiddle[_3 * k, 1]
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
def _radix_2(x: Any, y: Any, twiddle: Any, done: int, lanes: int) -> None:
    half = uint64(x.shape[0]) // _2
    for first in range(_0, half, done * ROW):
        k = _2 * first // ROW
        cos, sin = twiddle[k, 0], twiddle[k, 1]
        for a in range(first, first + done * ROW, ROW):
            b, to = a + half, _2 * a
            for t in range(lanes):
                i = t + LANES
                re, im = x[a + t] - x[b + t], x[a + i] - x[b + i]
                y[to + t], y[to + i] = x[a + t] + x[b + t], x[a + i] + x[b + i]
                y[to + ROW + t], y[to + ROW + i] = re * cos - im * sin, re * sin + im * cos


@_inlined
def _any_radix(x: Any, y: Any, radix: int, twiddle: Any, done: int, lanes: int) -> None:
    """Stage of any radix, by the sum that defines the DFT."""
    n_fft, part = uint64(twiddle.shape[0]), uint64(x.shape[0]) // radix
    y[:] = 0
    for a in range(_0, part, ROW):
        j = a // ROW // done * done
        for k in range(radix):
            to = radix * a + k * ROW
            for q in range(radix):
                at, step = a + q * part, k * (_2 * j + n_fft // radix * q) % n_fft
                cos, sin = twiddle[step, 0], twiddle[step, 1]
                for t in range(lanes):
                    i = t + LANES
                    y[to + t] += x[at + t] * cos - x[at + i] * sin
                    y[to + i] += x[at + t] * sin + x[at + i] * cos


@_inlined
def _power(z: Any, bin_row: Any, twiddle: Any, at: int, power: Any, lanes: int) -> None:
    """Write 4 |bin| ** 2 of the real frames to `power`, from column `at` on.

    Bin k goes to row 2 k and bin n_fft / 2 - k to row 2 k + 1. Both are computed from bins k and n_fft / 2 - k of `z`,
    the FFT of even samples + i times odd samples.
    """
    half = uint64(bin_row.shape[0]) - _1
    for k in range(half // _2 + _1):
        a, b, to = bin_row[k] * ROW, bin_row[half - k] * ROW, _2 * k * GROUP + at
        cos, sin = twiddle[k, 0], twiddle[k, 1]
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
    """Sum the bands of n frames from the rows of `power`."""
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
def _store(bands: Any, share: Any, group: Any, out: Any, least: Any) -> None:
    """Write the bands of a group to the rows of its frames, and the smallest band times `share` of each frame."""
    for t in range(uint64(group.shape[0])):
        frame, lowest = group[t], float32(np.inf)
        for m in range(uint64(share.shape[0])):
            band = bands[m, t]
            out[frame, m] = band
            lowest = band * share[m] if band * share[m] < lowest else lowest  # an empty band gives 0 * inf = NaN
        least[frame] = lowest


class Plan(NamedTuple):
    """Constants for the FFT of real frames of n_fft samples."""

    radices: np.ndarray  # uint64 [n_stages]; their product is n_fft / 2
    bin_row: np.ndarray  # uint64 [n_fft / 2 + 1], row of bin k in the result; the last bin repeats the first
    twiddle: np.ndarray  # [n_fft, 2], cosine and sine of -2 pi k / n_fft


def fft_plan(n_fft: int, dtype: str) -> Plan:
    """Plan the FFT of real frames.

    Args:
        n_fft: Length of a frame, even; the larger its largest prime factor, the slower the FFT.
        dtype: "float32" or "float64", the precision of the twiddle factors.

    Returns:
        Constants for `energy_loop`, arrays as described in `Plan`.
    """
    left, radices = n_fft // 2, []
    for radix in (4, 2, *range(3, n_fft, 2)):
        while left % radix == 0:
            radices.append(radix)
            left //= radix
    number = np.arange(n_fft // 2 + 1) % (n_fft // 2)
    bin_row = np.zeros_like(number)
    for radix in radices:
        bin_row, number = bin_row * radix + number % radix, number // radix
    angle = -2.0 * np.pi / n_fft * np.arange(n_fft)
    twiddle = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(dtype)
    return Plan(np.array(radices, np.uint64), bin_row.astype(np.uint64), twiddle)
