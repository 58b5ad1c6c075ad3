"""Crops of clips: anywhere, or rather where something is loud and high-pitched."""

import numpy as np

from birdnet_fs.batches.augment.rng import Generator

ACTIVITY_BIN_S = 0.1


def crop(
    waveform: np.ndarray, n_samples: int, rng: Generator, *, activity: np.ndarray | None = None, sample_rate_hz: int
) -> np.ndarray:
    """A segment of a clip; a shorter clip lies at a random place in silence.

    Args:
        waveform: [n] samples.
        n_samples: Length wanted.
        rng: Where the place is drawn from.
        activity: Of this clip, see `activity`: half of the draws then prefer its active parts. None = anywhere.
        sample_rate_hz: Rate of the waveform.

    Returns:
        float32 [n_samples], a copy.
    """
    spare = len(waveform) - n_samples
    if spare <= 0:
        segment = np.zeros(n_samples, np.float32)
        onset = int(rng.integers(0, -spare + 1))
        segment[onset : onset + len(waveform)] = waveform
        return segment
    if activity is not None and rng.random() < 0.5:
        onset = _active_onset(activity, len(waveform), n_samples, rng, _bin(sample_rate_hz))
    else:
        onset = int(rng.integers(0, spare + 1))
    return waveform[onset : onset + n_samples].astype(np.float32, copy=True)


def activity(waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """How much happens up to every tenth of a second of a clip: a sum that starts at 0, float64 [n_tenths + 1].

    The second difference is a steep high-pass: wind and hum do not count. A tenth counts log(1 + its power over the
    clip's median).
    """
    n_bin = _bin(sample_rate_hz)
    n_bins = len(waveform) // n_bin
    steep = np.diff(waveform[: n_bins * n_bin], n=2, prepend=waveform[:1].repeat(2))
    energy = np.square(steep).reshape(n_bins, n_bin).mean(1)
    level = np.log1p(energy / (np.median(energy) + 1e-12)) if n_bins else energy
    return np.concatenate([[0.0], np.cumsum(level)])


def _bin(sample_rate_hz: int) -> int:
    return round(ACTIVITY_BIN_S * sample_rate_hz)


def _active_onset(total: np.ndarray, n: int, n_samples: int, rng: Generator, n_bin: int) -> int:
    """An onset drawn in proportion to the squared activity below the segment."""
    n_bins = len(total) - 1
    width = min(n_samples // n_bin, n_bins)
    onsets = np.arange((n - n_samples) // n_bin + 1)
    weight = np.square(total[np.minimum(onsets + width, n_bins)] - total[np.minimum(onsets, n_bins)])
    if weight.sum() <= 0:
        return int(rng.integers(0, n - n_samples + 1))
    return int(rng.choice(onsets, p=weight / weight.sum())) * n_bin
