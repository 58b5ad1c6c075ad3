"""Zero-phase filters and colored noise, made in the spectrum of a whole segment.

Sources: Nam, Kim, Park 2022, "FilterAugment: An Acoustic Environmental Data Augmentation Method",
https://arxiv.org/abs/2110.03282 (the equalizer; its linear kind, with a fixed number of bands); Butterworth 1930, "On
the theory of filter amplifiers" (low-pass and high-pass); Timmer and König 1995, "On generating power law noise",
https://ui.adsabs.harvard.edu/abs/1995A%26A...300..707T (colored noise).
"""

import functools

import numpy as np
import scipy.fft

N_EQ_POINTS = 6
EQ_LOWEST_HZ = 200.0
COLOR_LOWEST_HZ = 100.0
DB_PER_OCTAVE = 20 * np.log10(2.0)  # of a filter of order 1


def change_spectrum(waveform: np.ndarray, gain_db: np.ndarray) -> np.ndarray:
    """Apply a gain to each frequency of a segment.

    Args:
        waveform: float32 [n].
        gain_db: float32 [n // 2 + 1], in dB, one for each bin of the segment's FFT.

    Returns:
        float32 [n]. The filter is circular: it wraps around the ends of the segment.
    """
    spectrum = scipy.fft.rfft(waveform)
    spectrum *= np.exp(gain_db * np.float32(np.log(10.0) / 20))
    return scipy.fft.irfft(spectrum, n=len(waveform), overwrite_x=True)


def equalizer(gains_db: np.ndarray, n_samples: int, sample_rate_hz: int) -> np.ndarray:
    """Gain curve through points evenly spaced in log frequency from 200 Hz to Nyquist, linear in between.

    Args:
        gains_db: [n_points], two or more, in dB.
        n_samples: Length of the segment.
        sample_rate_hz: Sample rate of the segment.

    Returns:
        float32 [n_samples // 2 + 1], in dB.
    """
    octave = _octaves(n_samples, sample_rate_hz)
    points = np.linspace(np.log2(EQ_LOWEST_HZ), np.log2(sample_rate_hz / 2), len(gains_db))
    first = np.searchsorted(octave, points)
    gain = np.full(len(octave), gains_db[0], np.float32)
    for i in range(len(points) - 1):
        slope = (gains_db[i + 1] - gains_db[i]) / (points[1] - points[0])
        part = slice(first[i], first[i + 1] if i + 2 < len(points) else None)
        gain[part] = (octave[part] - np.float32(points[i])) * np.float32(slope) + np.float32(gains_db[i])
    return gain


def low_pass(cutoff_hz: float, db_per_octave: float, n_samples: int, sample_rate_hz: int) -> np.ndarray:
    """Gain of a Butterworth low-pass filter: -3 dB at the cut-off, falling by `db_per_octave` far above it.

    Args:
        cutoff_hz: Cut-off frequency, above 0.
        db_per_octave: Slope; 6.02 times the order of the filter.
        n_samples: Length of the segment.
        sample_rate_hz: Sample rate of the segment.

    Returns:
        float32 [n_samples // 2 + 1], in dB.
    """
    return _butterworth(_octaves(n_samples, sample_rate_hz) - np.float32(np.log2(cutoff_hz)), db_per_octave)


def high_pass(cutoff_hz: float, db_per_octave: float, n_samples: int, sample_rate_hz: int) -> np.ndarray:
    """Gain of a Butterworth high-pass filter, falling below the cut-off; 0 Hz is treated as 1 Hz.

    Args:
        cutoff_hz: Cut-off frequency, above 0.
        db_per_octave: Slope; 6.02 times the order of the filter.
        n_samples: Length of the segment.
        sample_rate_hz: Sample rate of the segment.

    Returns:
        float32 [n_samples // 2 + 1], in dB.
    """
    return _butterworth(np.float32(np.log2(cutoff_hz)) - _octaves(n_samples, sample_rate_hz), db_per_octave)


def _butterworth(octaves: np.ndarray, db_per_octave: float) -> np.ndarray:
    """-10 log10(1 + 2 ** (2 order octaves beyond the cut-off))."""
    twice_order = 2 * db_per_octave / DB_PER_OCTAVE
    beyond = np.minimum(octaves * np.float32(twice_order * np.log(2.0)), np.float32(80))  # float32 overflows at e ** 88
    return np.log(1 + np.exp(beyond)) * np.float32(-10 / np.log(10.0))


def colored_noise(n_samples: int, exponent: float, rng: np.random.Generator, sample_rate_hz: int) -> np.ndarray:
    """Noise whose power falls with frequency ** exponent above 100 Hz.

    Below 100 Hz the power is constant: otherwise nearly all of it would lie below the frequencies of birds.

    Args:
        n_samples: Length of the noise.
        exponent: 0 white, 1 pink, 2 brown, -1 blue.
        rng: Generator to draw from.
        sample_rate_hz: Sample rate of the noise.

    Returns:
        float32 [n_samples] of arbitrary scale and mean 0.
    """
    octave = _octaves(n_samples, sample_rate_hz)
    spectrum = rng.standard_normal(2 * len(octave), np.float32).view(np.complex64)
    above = np.maximum(octave - np.float32(np.log2(COLOR_LOWEST_HZ)), np.float32(0))
    spectrum *= np.exp(above * np.float32(-exponent / 2 * np.log(2.0)))
    spectrum[0] = 0
    return scipy.fft.irfft(spectrum, n=n_samples, overwrite_x=True)


@functools.lru_cache(maxsize=16)
def _octaves(n_samples: int, sample_rate_hz: int) -> np.ndarray:
    """Log2 of the frequency in Hz of every FFT bin, with 0 Hz as 1 Hz; float32 [n_samples // 2 + 1]."""
    hz = np.arange(n_samples // 2 + 1) * (sample_rate_hz / n_samples)
    octaves = np.log2(np.maximum(hz, 1.0)).astype(np.float32)
    octaves.flags.writeable = False
    return octaves
