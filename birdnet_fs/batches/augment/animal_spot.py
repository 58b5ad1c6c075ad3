"""ANIMAL-SPOT's augmentation, on the power spectrogram before it becomes bands and dB.

Source: Bergler et al. 2022, "ANIMAL-SPOT enables animal-independent signal detection and classification using deep
learning", Scientific Reports 12, https://doi.org/10.1038/s41598-022-26429-y, in the order of its repository
(ChristianBergler/ANIMAL-SPOT, data/transforms.py): amplitude in whole dB; pitch, a nearest-neighbor resize of the bins
with the median in the empty ones; time, a nearest-neighbor resize of the frames; bands; background noise at an SNR in
whole dB, with its own changes of time and pitch; dB and normalization of the front-end.

ANIMAL-SPOT cuts or pads a spectrogram of another length at its end. Here the crop is longer or shorter by the same
factor instead, so that the segment is filled where the clip is long enough.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from birdnet_fs.batches.augment.item_random import ItemRandom
from birdnet_fs.batches.augment.waveform import background
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend.definition import apply_steps, clip_frames, define
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.schema import AnimalSpot, FrontEnd


class Parameters(NamedTuple):
    """Changes of one segment before noise is added."""

    amplitude_db: int
    pitch: float  # factor of all frequencies
    time: float  # factor of the duration


def draw_parameters(settings: AnimalSpot, item_random: ItemRandom) -> Parameters | None:
    """Draw the changes of one segment.

    Args:
        settings: Probability and ranges.
        item_random: Generators of the item; a description is appended to it.

    Returns:
        The changes, or None for the plain front-end.
    """
    rng = item_random.rng
    if not settings.p or rng.random() >= settings.p:
        return None
    amplitude_db = int(rng.integers(settings.amplitude_db[0], settings.amplitude_db[1] + 1))
    drawn = Parameters(amplitude_db, _factor(settings.pitch, rng), _factor(settings.time, rng))
    item_random.changes.append(f"{amplitude_db:+d} dB, frequencies x {drawn.pitch:.2f}, duration x {drawn.time:.2f}")
    return drawn


def features(
    waveform: np.ndarray,
    drawn: Parameters,
    spec: FrontEnd,
    settings: AnimalSpot,
    item_random: ItemRandom,
    noises: Waveforms | Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Features of a segment with all changes applied.

    Args:
        waveform: float32 [n], of any length that gives a frame; it is resized to the frames of a segment.
        drawn: Changes from `draw_parameters`.
        spec: The front-end.
        settings: Ranges for the noise.
        item_random: Generators of the item; a description of the noise is appended to it.
        noises: Background waveforms. Default: (), no noise is added.

    Returns:
        float32 [n_frames, n_mels], `spec.shape`.
    """
    definition = define(spec, spec.n_samples)
    x = band_energies(waveform, drawn.pitch, definition.n_frames, spec)
    x *= np.float32(10 ** (drawn.amplitude_db / 10))
    if len(noises):
        pitch, time = _factor(settings.pitch, item_random.rng), _factor(settings.time, item_random.rng)
        noise, name = background(round(spec.n_samples / time), item_random, noises, spec.sample_rate_hz)
        snr_db = int(item_random.rng.integers(settings.snr_db[0], settings.snr_db[1] + 1))
        x = add_noise(x, band_energies(noise, pitch, definition.n_frames, spec), snr_db)
        item_random.changes.append(f"{name} at {snr_db} dB SNR (frequencies x {pitch:.2f}, duration x {time:.2f})")
    own = clip_frames(waveform[None], define(spec, len(waveform)), np)
    if own is not None:
        own = resize_nearest(own[0], definition.n_frames, 0)[None]
    return apply_steps(x[None], definition, np, own=own)[0].astype(np.float32, copy=False)


def add_noise(x: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add the band energies of noise at a signal-to-noise ratio; silent noise adds nothing.

    Args:
        x: float32 [n_frames, n_mels], energies of the segment.
        noise: float32 [n_frames, n_mels], energies of the noise at any level.
        snr_db: Sum of the segment's energies over that of the noise, in dB.

    Returns:
        float32 [n_frames, n_mels].
    """
    total = float(noise.sum())
    return x + noise * np.float32(float(x.sum()) / total * 10 ** (-snr_db / 10)) if total > 0 else x


def band_energies(waveform: np.ndarray, pitch: float, n_frames: int, spec: FrontEnd) -> np.ndarray:
    """Band energies of a waveform with another pitch and number of frames.

    Args:
        waveform: float32 [n].
        pitch: Factor of all frequencies.
        n_frames: Number of frames of the result.
        spec: The front-end.

    Returns:
        float32 [n_frames, spec.n_mels].
    """
    power = log_mel(waveform, power_spectrogram_frontend(spec))[0]
    power = resize_nearest(scale_frequencies(power, pitch), n_frames, 0)
    bands = define(spec, spec.n_samples).bands
    first, last = define(spec, spec.n_samples).bins
    return power[:, first:last] @ bands[:, first:last].T.astype(np.float32)


def scale_frequencies(power: np.ndarray, pitch: float) -> np.ndarray:
    """Multiply all frequencies of a power spectrogram by a factor.

    Args:
        power: float32 [n_frames, n_bins].
        pitch: The factor, above 0.

    Returns:
        float32 [n_frames, n_bins]; bins that become empty hold the median of `power`.
    """
    n_bins = power.shape[1]
    n_moved = round(n_bins * pitch)
    moved = resize_nearest(power, n_moved, 1)[:, :n_bins]
    if n_moved >= n_bins:
        return moved
    return np.pad(moved, ((0, 0), (0, n_bins - n_moved)), constant_values=np.median(power))


def resize_nearest(x: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Resize an array along an axis by nearest neighbor, rounding down as `torch.nn.functional.interpolate` does.

    Args:
        x: [n_frames, n_bins].
        size: New length of the axis.
        axis: 0 for frames, 1 for bins.

    Returns:
        [size, n_bins] or [n_frames, size].
    """
    return x.take(np.arange(size) * x.shape[axis] // size, axis)


def _factor(between: tuple[float, float], rng: np.random.Generator) -> float:
    """Draw a factor between the two bounds, uniform in its logarithm."""
    return float(between[0] * (between[1] / between[0]) ** rng.random())


@functools.lru_cache(maxsize=16)
def power_spectrogram_frontend(spec: FrontEnd) -> FrontEnd:
    """Front-end that ends at the power spectrogram, [n_frames, n_fft / 2]; the bin at Nyquist is left out."""
    return dataclasses.replace(
        FrontEnd(),
        preset="power",
        sample_rate_hz=spec.sample_rate_hz,
        segment_s=spec.segment_s,
        preemphasis=spec.preemphasis,
        n_fft=spec.n_fft,
        win_length=spec.win_length,
        hop_length=spec.hop_length,
        pad_mode=spec.pad_mode,
        stft_scale=spec.stft_scale,
        bands="linear",
        n_mels=spec.n_fft // 2,
        fmin_hz=0.0,
        fmax_hz=spec.sample_rate_hz / 2,
        compression="none",
        top_db=0.0,
    )
