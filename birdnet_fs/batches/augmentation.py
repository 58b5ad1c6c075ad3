"""Random changes to training segments, each drawn from a generator keyed on (seed, epoch, index).

Waveform: crop, mixup in the power domain, background noise at an SNR, smooth equaliser, gain, silence at the end.
Features: shift along the bands, SpecAugment masks, Gaussian noise.

Sources: Zhang et al. 2018 (mixup, arXiv:1710.09412); Park et al. 2019 (SpecAugment, arXiv:1904.08779).
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.fft

from birdnet_fs.batches.waveforms import Waveforms
from birdnet_fs.schema import Augmentation

Random = np.random.Generator
N_EQ_POINTS = 6
EQ_LOWEST_HZ = 200.0
ACTIVITY_BIN_S = 0.1
SHORTEST_REST = 0.25  # share of a segment; a shorter rest of a recording is seldom scored


def crop(waveform: np.ndarray, n_samples: int, rng: Random, *, kind: str = "random", sample_rate_hz: int) -> np.ndarray:
    """A segment of a clip; a shorter clip lies at a random place in silence.

    Args:
        waveform: [n] samples.
        n_samples: Length wanted.
        rng: Where the place is drawn from.
        kind: "random", or "active": half of the draws prefer the loud, high-pitched parts.
        sample_rate_hz: Rate of the waveform.

    Returns:
        float32 [n_samples].
    """
    spare = len(waveform) - n_samples
    if spare <= 0:
        segment = np.zeros(n_samples, np.float32)
        onset = int(rng.integers(0, -spare + 1))
        segment[onset : onset + len(waveform)] = waveform
        return segment
    if kind == "active" and rng.random() < 0.5:
        onset = _active_onset(waveform, n_samples, rng, round(ACTIVITY_BIN_S * sample_rate_hz))
    else:
        onset = int(rng.integers(0, spare + 1))
    return waveform[onset : onset + n_samples].astype(np.float32, copy=True)


def _active_onset(waveform: np.ndarray, n_samples: int, rng: Random, n_bin: int) -> int:
    """An onset drawn in proportion to the squared activity below the segment."""
    n_bins = len(waveform) // n_bin
    # the second difference is a steep high-pass: wind and hum do not count as activity
    steep = np.diff(waveform[: n_bins * n_bin], n=2, prepend=waveform[:1].repeat(2))
    energy = np.square(steep).reshape(n_bins, n_bin).mean(1)
    activity = np.log1p(energy / (np.median(energy) + 1e-12))
    total = np.concatenate([[0.0], np.cumsum(activity)])
    width = min(n_samples // n_bin, n_bins)
    onsets = np.arange((len(waveform) - n_samples) // n_bin + 1)
    weight = np.square(total[np.minimum(onsets + width, n_bins)] - total[np.minimum(onsets, n_bins)])
    if weight.sum() <= 0:
        return int(rng.integers(0, len(waveform) - n_samples + 1))
    return int(rng.choice(onsets, p=weight / weight.sum())) * n_bin


def rms(waveform: np.ndarray) -> float:
    """Root mean square, never 0."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)) + 1e-12))


def mix(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Two segments at the first one's level, with `share` of the power from the first."""
    level = rms(first)
    mixed = np.sqrt(share) * first + np.sqrt(1 - share) * second * (level / rms(second))
    return mixed.astype(np.float32)


def add_noise(waveform: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """The segment with noise `snr_db` below its own level."""
    scale = rms(waveform) / rms(noise) * 10 ** (-snr_db / 20)
    return (waveform + scale * noise).astype(np.float32)


def equalise(waveform: np.ndarray, gains_db: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """A smooth filter: gains in dB at points evenly spaced in log frequency from 200 Hz to Nyquist."""
    spectrum = scipy.fft.rfft(waveform)
    hz = np.arange(len(spectrum)) * (sample_rate_hz / len(waveform))
    points = np.geomspace(EQ_LOWEST_HZ, sample_rate_hz / 2, len(gains_db))
    gain = 10 ** (np.interp(np.log(np.maximum(hz, 1.0)), np.log(points), gains_db) / 20)
    return scipy.fft.irfft(spectrum * gain.astype(np.float32), n=len(waveform)).astype(np.float32)


def augment_waveform(
    waveform: np.ndarray,
    targets: np.ndarray,
    settings: Augmentation,
    rng: Random,
    *,
    sample_rate_hz: int,
    multi_label: bool,
    partner: Callable[[Random], tuple[np.ndarray, np.ndarray]],
    noises: Waveforms | Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The waveform stage, in the order mixup, noise, equaliser, gain, silence at the end.

    Args:
        waveform: Segment, float32 [n_samples].
        targets: float32 [n_classes].
        settings: Which changes, and how strong.
        rng: The generator of this (seed, epoch, index).
        sample_rate_hz: Rate of the segment.
        multi_label: Mixed labels are the union; else shares that sum to 1.
        partner: Draws another segment and its targets for mixup.
        noises: Background waveforms; when there are none, noise is white.

    Returns:
        The changed segment and its targets.
    """
    if settings.mixup_p and rng.random() < settings.mixup_p:
        share = rng.beta(settings.mixup_alpha, settings.mixup_alpha)
        share = max(share, 1 - share)
        other, other_targets = partner(rng)
        waveform = mix(waveform, other, share)
        targets = np.maximum(targets, other_targets) if multi_label else share * targets + (1 - share) * other_targets
    if settings.noise_p and rng.random() < settings.noise_p:
        if len(noises):
            source = noises[int(rng.integers(len(noises)))]
            noise = crop(source, len(waveform), rng, sample_rate_hz=sample_rate_hz)
        else:
            noise = rng.standard_normal(len(waveform), dtype=np.float32)
        waveform = add_noise(waveform, noise, rng.uniform(*settings.noise_snr_db))
    if settings.eq_db:
        waveform = equalise(waveform, rng.uniform(-settings.eq_db, settings.eq_db, N_EQ_POINTS), sample_rate_hz)
    if settings.gain_db:
        waveform = waveform * np.float32(10 ** (rng.uniform(-settings.gain_db, settings.gain_db) / 20))
    if settings.pad_p and rng.random() < settings.pad_p:
        waveform = waveform.copy()
        waveform[int(rng.uniform(SHORTEST_REST, 1.0) * len(waveform)) :] = 0
    return waveform, targets.astype(np.float32)


def augment_features(features: np.ndarray, settings: Augmentation, rng: Random) -> np.ndarray:
    """The feature stage: a shift along the bands, masks filled with the segment's mean, Gaussian noise.

    Args:
        features: [n_frames, n_mels]; not changed.
        settings: Which changes, and how strong.
        rng: The generator of this (seed, epoch, index).

    Returns:
        float32 [n_frames, n_mels].
    """
    features = np.array(features, np.float32)
    n_frames, n_mels = features.shape
    if settings.freq_shift:
        shift = int(rng.integers(-settings.freq_shift, settings.freq_shift + 1))
        features = features[:, np.clip(np.arange(n_mels) - shift, 0, n_mels - 1)]
    fill = features.mean()
    for count, longest, size, axis in (
        (settings.time_masks, settings.time_mask_max, n_frames, 0),
        (settings.freq_masks, settings.freq_mask_max, n_mels, 1),
    ):
        for _ in range(count):
            width = int(rng.integers(0, int(longest * size) + 1))
            onset = int(rng.integers(0, size - width + 1))
            features[(slice(None),) * axis + (slice(onset, onset + width),)] = fill
    if settings.feature_noise_p and rng.random() < settings.feature_noise_p:
        features += settings.feature_noise * rng.standard_normal(features.shape, dtype=np.float32)
    return features
