"""Time stretch and pitch shift by a phase vocoder.

Source: Puckette 1995, "Phase-locked vocoder", IEEE WASPAA, https://doi.org/10.1109/ASPAA.1995.482995: two frames of the
input, as far apart as frames of the output are, give the phase advance without unwrapping, and neighboring bins of
the last output frame are added with turned sign, which keeps them together. Windows are short (about 12 ms): birds
sweep fast, and on their sweeps this is nearer to the truth than libraries made for music, which are slower and either
bring a random generator of their own that cannot be seeded (Signalsmith's beyond a factor of 2) or are no
dependencies of ours. Tones below about 300 Hz are blurred.
"""

import functools
from collections.abc import Callable

import numpy as np
import scipy.fft
import soxr

WINDOW_S = 0.012
OVERLAP = 4  # frames over every sample
GROUP = 128  # frames at a time: they stay in the cache


def stretch_and_shift(waveform: np.ndarray, n_samples: int, semitones: float, sample_rate_hz: int) -> np.ndarray:
    """A waveform in another length and at another pitch.

    Args:
        waveform: float32 [n]; it plays n / n_samples times as fast afterwards.
        n_samples: Length wanted.
        semitones: By how much it sounds higher; 0 = as it is.
        sample_rate_hz: Its rate.

    Returns:
        float32 [n_samples]. What comes to lie above Nyquist is gone; below a lowered Nyquist there is nothing.
    """
    factor = 2.0 ** (semitones / 12)
    longer = round(n_samples * factor)
    if longer != len(waveform):
        waveform = stretch(waveform, longer, sample_rate_hz)
    if longer == n_samples:
        return waveform
    # read faster (or slower), what was stretched has its length again and another pitch
    shifted = soxr.resample(waveform, longer / n_samples * sample_rate_hz, sample_rate_hz, quality="MQ")
    return np.pad(shifted, (0, max(0, n_samples - len(shifted))))[:n_samples]


def stretch(waveform: np.ndarray, n_samples: int, sample_rate_hz: int) -> np.ndarray:
    """A waveform in another length at its pitch.

    Args:
        waveform: float32 [n].
        n_samples: Length wanted.
        sample_rate_hz: Its rate.

    Returns:
        float32 [n_samples]. Sweeps of 10 kHz a second and more become quieter, by up to some dB.
    """
    n_fft = 2 ** round(np.log2(WINDOW_S * sample_rate_hz))
    hop = n_fft // OVERLAP
    n_frames = -(-n_samples // hop) + OVERLAP - 1
    window = (0.5 - 0.5 * np.cos(2 * np.pi / n_fft * np.arange(n_fft))).astype(np.float32)
    center = (np.arange(n_frames) - OVERLAP / 2 + 1) * hop  # in the output
    start = np.round(center * (len(waveform) / n_samples)).astype(int) - n_fft // 2  # in the input
    before = hop - int(start[0])
    padded = np.pad(waveform, (before, max(0, int(start[-1]) + n_fft - len(waveform))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)
    out = np.zeros((n_frames + OVERLAP - 1, hop), np.float32)
    last = np.zeros(n_fft // 2 + 1, np.complex64)
    for first in range(0, n_frames, GROUP):
        places = start[first : first + GROUP] + before
        now = scipy.fft.rfft(frames[places] * window)
        _compiled()(now, scipy.fft.rfft(frames[places - hop] * window), last)
        pieces = scipy.fft.irfft(now, n=n_fft, overwrite_x=True)
        pieces *= window
        for j in range(OVERLAP):
            out[first + j : first + j + len(places)] += pieces[:, j * hop : (j + 1) * hop]
    out *= 1 / (0.375 * OVERLAP)  # the mean of a squared Hann window is 3/8
    return out.reshape(-1)[(OVERLAP - 1) * hop :][:n_samples]


def _advance(now: np.ndarray, before: np.ndarray, last: np.ndarray) -> None:
    """Gives each row of `now` the phase that continues `last`, and becomes the next `last`.

    now: complex64 [n_frames, n_bins], frames of the input; the magnitudes stay.
    before: complex64 [n_frames, n_bins], the input one hop earlier.
    last: complex64 [n_bins], the last frame of the output; zeros before the first.
    """
    n_bins = now.shape[1]
    for t in range(now.shape[0]):
        for k in range(n_bins):
            together = np.complex128(last[k])
            if k > 0:
                together -= last[k - 1]
            if k + 1 < n_bins:
                together -= last[k + 1]
            there = np.complex128(now[t, k])
            turned = there * np.conj(np.complex128(before[t, k])) * together
            size = np.sqrt(turned.real * turned.real + turned.imag * turned.imag)
            if size > 1e-60:  # else silence, where any phase will do
                length = np.sqrt(there.real * there.real + there.imag * there.imag)
                now[t, k] = turned * (length / size)
        last[:] = now[t]


@functools.lru_cache(maxsize=1)
def _compiled() -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    """`_advance`, compiled; from numba's cache on disk where one can be kept."""
    import numba

    c8 = numba.complex64
    signature = numba.void(c8[:, ::1], c8[:, ::1], c8[::1])
    try:
        return numba.njit(signature, cache=True, nogil=True)(_advance)
    except (RuntimeError, OSError):  # no folder to keep the cache in, or a full disk
        return numba.njit(signature, nogil=True)(_advance)
