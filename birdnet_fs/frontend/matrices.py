"""Hann window, mel and linear band matrices, and resize weights, in float64 with numpy alone.

Sources: Slaney's Auditory Toolbox (1998) and the HTK Book for the two mel scales, as in librosa; half-pixel bilinear
and Lanczos-5 weights as in `tf.image.resize(antialias=False)`.
"""

import functools
import math

import numpy as np


def hann(win_length: int, n_fft: int) -> np.ndarray:
    """Periodic Hann window of `win_length` samples, zero-padded on both sides; float64 [n_fft]."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(win_length) / win_length)
    before = (n_fft - win_length) // 2
    return np.pad(window, (before, n_fft - win_length - before))


def mel_matrix(
    sample_rate_hz: float, n_fft: int, n_mels: int, fmin_hz: float, fmax_hz: float, *, htk: bool = False
) -> np.ndarray:
    """Matrix of triangular mel filters.

    Args:
        sample_rate_hz: Sample rate of the waveform.
        n_fft: Length of the FFT.
        n_mels: Number of filters.
        fmin_hz: Lower edge of the first filter.
        fmax_hz: Upper edge of the last filter.
        htk: False for Slaney's scale with triangles of area 1 (over Hz), True for the HTK scale with triangles of
            height 1. Default: False.

    Returns:
        float64 [n_mels, n_fft // 2 + 1].
    """
    edges = mel_edges_hz(n_mels, fmin_hz, fmax_hz, htk=htk)[:, None]
    frequency = np.arange(n_fft // 2 + 1) * sample_rate_hz / n_fft
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return triangles if htk else triangles * 2.0 / (edges[2:] - edges[:-2])


def mel_edges_hz(n_mels: int, fmin_hz: float, fmax_hz: float, *, htk: bool = False) -> np.ndarray:
    """Edges of triangular mel filters: filter i begins at edge i, has its peak at edge i + 1 and ends at edge i + 2.

    Args:
        n_mels: Number of filters.
        fmin_hz: Lower edge of the first filter.
        fmax_hz: Upper edge of the last filter.
        htk: False for Slaney's scale, True for the HTK scale. Default: False.

    Returns:
        float64 [n_mels + 2] in Hz, equally spaced in mel.
    """
    return _mel_to_hz(np.linspace(_hz_to_mel(fmin_hz, htk), _hz_to_mel(fmax_hz, htk), n_mels + 2), htk)


# Slaney's scale: 200/3 Hz per mel below 1 kHz, then 27 mels for every factor of 6.4.
_HZ_PER_MEL, _KNEE_HZ, _LOG_STEP = 200.0 / 3.0, 1000.0, math.log(6.4) / 27.0


def _hz_to_mel(hz: float, htk: bool) -> float:
    if htk:
        return 2595.0 * math.log10(1.0 + hz / 700.0)
    return hz / _HZ_PER_MEL if hz < _KNEE_HZ else _KNEE_HZ / _HZ_PER_MEL + math.log(hz / _KNEE_HZ) / _LOG_STEP


def _mel_to_hz(mel: np.ndarray, htk: bool) -> np.ndarray:
    if htk:
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    knee = _KNEE_HZ / _HZ_PER_MEL
    return np.where(mel < knee, mel * _HZ_PER_MEL, _KNEE_HZ * np.exp(_LOG_STEP * (mel - knee)))


def linear_matrix(sample_rate_hz: float, n_fft: int, n_bands: int, fmin_hz: float, fmax_hz: float) -> np.ndarray:
    """Matrix that selects one FFT bin for each band, equally spaced in frequency, as in ANIMAL-SPOT.

    The bins from floor(fmin) to ceil(fmax), without the last, are resized to `n_bands` by nearest neighbor.

    Args:
        sample_rate_hz: Sample rate of the waveform.
        n_fft: Length of the FFT.
        n_bands: Number of bands.
        fmin_hz: Lowest frequency.
        fmax_hz: Highest frequency.

    Returns:
        float64 [n_bands, n_fft // 2 + 1], one 1 in each row.
    """
    first = math.floor(n_fft * fmin_hz / sample_rate_hz)
    n_bins = math.ceil(n_fft * fmax_hz / sample_rate_hz) - first
    matrix = np.zeros((n_bands, n_fft // 2 + 1))
    nearest = np.arange(n_bands) * n_bins // n_bands
    matrix[np.arange(n_bands), first + nearest] = 1.0
    return matrix


@functools.lru_cache(maxsize=64)
def resize_weights(n_in: int, n_out: int, method: str) -> np.ndarray | None:
    """Weights of a resize along one axis, with half-pixel centers and without antialiasing.

    Args:
        n_in: Length of the axis.
        n_out: New length.
        method: "bilinear" or "lanczos5".

    Returns:
        float64 [n_out, n_in], rows sum to 1; None where the length does not change.
    """
    if n_in == n_out:
        return None
    radius = 5.0 if method == "lanczos5" else 1.0
    center = (np.arange(n_out) + 0.5)[:, None] * n_in / n_out
    tap = np.arange(n_in)[None, :]
    reach = (tap >= np.ceil(center - radius - 0.5)) & (tap <= np.floor(center + radius - 0.5))
    x = tap + 0.5 - center
    weights = np.where(reach, _lanczos(x, radius) if method == "lanczos5" else np.maximum(0.0, 1.0 - abs(x)), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    weights.flags.writeable = False
    return weights


def _lanczos(x: np.ndarray, radius: float) -> np.ndarray:
    near = np.where(abs(x) <= 1e-3, 1.0, x)
    kernel = radius * np.sin(np.pi * near) * np.sin(np.pi * near / radius) / (np.pi * near) ** 2
    return np.where(abs(x) <= 1e-3, 1.0, np.where(abs(x) > radius, 0.0, kernel))
