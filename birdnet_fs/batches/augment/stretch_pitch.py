"""Time stretch and pitch shift by a phase vocoder.

Source: Puckette 1995, "Phase-locked vocoder", IEEE WASPAA, https://doi.org/10.1109/ASPAA.1995.482995: two input frames
one output hop apart give the phase advance without unwrapping, and neighboring bins of the previous output frame are
added with opposite sign, which locks their phases. Windows are short (about 12 ms) because birds sweep fast: on such
sweeps the result is more accurate than that of libraries for music, which are slower and either draw from a generator
that cannot be seeded (Signalsmith's beyond a factor of 2) or are not dependencies of this package. Tones below about
300 Hz are blurred.
"""

import functools
from collections.abc import Callable

import numpy as np
import scipy.fft
import soxr

WINDOW_S = 0.012
OVERLAP = 4  # frames that cover each sample
GROUP = 128  # frames processed at a time, so that they stay in the CPU cache


def stretch_and_shift(waveform: np.ndarray, n_samples: int, semitones: float, sample_rate_hz: int) -> np.ndarray:
    """Stretch a waveform to another length and shift its pitch.

    Args:
        waveform: float32 [n]; the result is n / n_samples times as fast.
        n_samples: Length of the result.
        semitones: Pitch shift; above 0 is higher, 0 leaves the pitch unchanged.
        sample_rate_hz: Sample rate of the waveform.

    Returns:
        float32 [n_samples]. Frequencies shifted above Nyquist are removed; a shift down leaves the top band empty.
    """
    factor = 2.0 ** (semitones / 12)
    longer = round(n_samples * factor)
    if longer != len(waveform):
        waveform = stretch(waveform, longer, sample_rate_hz)
    if longer == n_samples:
        return waveform
    # resampling restores the length and moves the pitch by the factor
    shifted = soxr.resample(waveform, longer / n_samples * sample_rate_hz, sample_rate_hz, quality="MQ")
    return np.pad(shifted, (0, max(0, n_samples - len(shifted))))[:n_samples]


def stretch(waveform: np.ndarray, n_samples: int, sample_rate_hz: int) -> np.ndarray:
    """Stretch a waveform to another length at the same pitch.

    Args:
        waveform: float32 [n].
        n_samples: Length of the result.
        sample_rate_hz: Sample rate of the waveform.

    Returns:
        float32 [n_samples]. Sweeps of 10 kHz/s and faster lose up to a few dB.
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
    """Set the phases of each row of `now`, in place, so that they continue the previous output frame.

    Args:
        now: complex64 [n_frames, n_bins], STFT of the input; magnitudes are kept.
        before: complex64 [n_frames, n_bins], STFT of the input one hop earlier.
        last: complex64 [n_bins], the previous output frame, zeros before the first; overwritten with the last one.
    """
    n_bins = now.shape[1]
    for t in range(now.shape[0]):
        for k in range(n_bins):
            locked = np.complex128(last[k])
            if k > 0:
                locked -= last[k - 1]
            if k + 1 < n_bins:
                locked -= last[k + 1]
            there = np.complex128(now[t, k])
            turned = there * np.conj(np.complex128(before[t, k])) * locked
            size = np.sqrt(turned.real * turned.real + turned.imag * turned.imag)
            if size > 1e-60:  # otherwise silence, where any phase is valid
                length = np.sqrt(there.real * there.real + there.imag * there.imag)
                now[t, k] = turned * (length / size)
        last[:] = now[t]


@functools.lru_cache(maxsize=1)
def _compiled() -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    """Compile `_advance`, or load it from numba's cache on disk where that is writable."""
    import numba

    c8 = numba.complex64
    signature = numba.void(c8[:, ::1], c8[:, ::1], c8[::1])
    try:
        return numba.njit(signature, cache=True, nogil=True)(_advance)
    except (RuntimeError, OSError):  # the cache folder is not writable, or the disk is full
        return numba.njit(signature, nogil=True)(_advance)
