"""Crops of clips: at random, more often where high frequencies are loud, or the middle."""

import numpy as np

from birdnet_fs.data.windows import pad_to
from birdnet_fs.schema import FrontEnd

ACTIVITY_BIN_S = 0.1


def crop(
    waveform: np.ndarray,
    n_samples: int,
    rng: np.random.Generator,
    *,
    activity: np.ndarray | None = None,
    sample_rate_hz: int,
) -> np.ndarray:
    """Cut a segment out of a clip; a shorter clip is placed at a random position in silence.

    Args:
        waveform: float32 [n], the clip.
        n_samples: Length of the segment.
        rng: Generator that the position is drawn from.
        activity: `cumulative_activity` of the clip; half of the positions are then drawn in proportion to the squared
            activity of the segment. Default: None, all positions are equally likely.
        sample_rate_hz: Sample rate of the waveform.

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


def center(waveform: np.ndarray, n_samples: int) -> np.ndarray:
    """Cut the middle of a clip; a shorter clip is placed in the middle of silence.

    Args:
        waveform: float32 [n], the clip.
        n_samples: Length of the segment.

    Returns:
        float32 [n_samples], a copy.
    """
    segment = np.zeros(n_samples, np.float32)
    spare = len(waveform) - n_samples
    if spare >= 0:
        segment[:] = waveform[spare // 2 : spare // 2 + n_samples]
    else:
        segment[-spare // 2 : -spare // 2 + len(waveform)] = waveform
    return segment


def middle_segment(waveform: np.ndarray, spec: FrontEnd) -> np.ndarray:
    """The segment of a clip that `augmentation.crop=center` gives for a front-end.

    Args:
        waveform: float32 [n], the clip.
        spec: The front-end; with `normalize_when=clip` the padding of a shorter clip is behind it.

    Returns:
        float32 [spec.n_samples], a copy.
    """
    if spec.normalize_when == "clip" and len(waveform) < spec.n_samples:
        return pad_to(waveform, spec.n_samples)
    return center(waveform, spec.n_samples)


def cumulative_activity(waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Cumulative sum of a clip's activity over bins of 0.1 s.

    The activity of a bin is log(1 + its power / the median power of the clip's bins), after a second difference: a
    steep high-pass filter, so that wind and hum have no weight.

    Args:
        waveform: float32 [n_samples].
        sample_rate_hz: Sample rate of the waveform.

    Returns:
        float64 [n_bins + 1]; the first value is 0.
    """
    n_bin = _bin(sample_rate_hz)
    n_bins = len(waveform) // n_bin
    steep = np.diff(waveform[: n_bins * n_bin], n=2, prepend=waveform[:1].repeat(2))
    energy = np.square(steep).reshape(n_bins, n_bin).mean(1)
    level = np.log1p(energy / (np.median(energy) + 1e-12)) if n_bins else energy
    return np.concatenate([[0.0], np.cumsum(level)])


def _bin(sample_rate_hz: int) -> int:
    return round(ACTIVITY_BIN_S * sample_rate_hz)


def _active_onset(total: np.ndarray, n: int, n_samples: int, rng: np.random.Generator, n_bin: int) -> int:
    """Onset drawn in proportion to the squared activity of the segment."""
    n_bins = len(total) - 1
    width = min(n_samples // n_bin, n_bins)
    onsets = np.arange((n - n_samples) // n_bin + 1)
    weight = np.square(total[np.minimum(onsets + width, n_bins)] - total[np.minimum(onsets, n_bins)])
    if weight.sum() <= 0:
        return int(rng.integers(0, n - n_samples + 1))
    return int(rng.choice(onsets, p=weight / weight.sum())) * n_bin
