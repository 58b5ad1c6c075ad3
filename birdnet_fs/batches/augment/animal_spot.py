"""ANIMAL-SPOT's augmentation, on the power spectrogram before it becomes bands and dB.

Source: Bergler et al. 2022, "ANIMAL-SPOT enables animal-independent signal detection and classification using deep
learning", Scientific Reports 12, https://doi.org/10.1038/s41598-022-26429-y, in the order of its repository
(ChristianBergler/ANIMAL-SPOT, data/transforms.py): amplitude in whole dB; pitch, all bins stretched or compressed to
the nearest one, with the median where nothing comes to lie; time, frames to the nearest; bands; background noise at an
SNR in whole dB, changed in time and pitch by itself; dB and normalization as the front-end has them.

There a spectrogram of another length is cut or padded at the end. Here the crop is as much shorter or longer before,
so that the segment is filled where the clip allows it.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from birdnet_fs.batches.augment.rng import Generator, ItemRandom
from birdnet_fs.batches.augment.waveform import background
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend.definition import define, finish
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.schema import AnimalSpot, FrontEnd


class Parameters(NamedTuple):
    """What one segment gets before noise."""

    amplitude_db: int
    pitch: float
    time: float


def draw_parameters(settings: AnimalSpot, random: ItemRandom) -> Parameters | None:
    """What a segment gets, or None: then the front-end does its work as always."""
    rng = random.rng
    if not settings.p or rng.random() >= settings.p:
        return None
    amplitude_db = int(rng.integers(settings.amplitude_db[0], settings.amplitude_db[1] + 1))
    drawn = Parameters(amplitude_db, _factor(settings.pitch, rng), _factor(settings.time, rng))
    random.changes.append(f"{amplitude_db:+d} dB, frequencies x {drawn.pitch:.2f}, duration x {drawn.time:.2f}")
    return drawn


def features(
    waveform: np.ndarray,
    drawn: Parameters,
    spec: FrontEnd,
    settings: AnimalSpot,
    random: ItemRandom,
    noises: Waveforms | Sequence[np.ndarray] = (),
) -> np.ndarray:
    """The features of a segment after the whole chain.

    Args:
        waveform: float32, of any length that gives a frame; it becomes all frames of a segment.
        drawn: What it gets.
        spec: The front-end.
        settings: Of the noise.
        random: Of this item.
        noises: Background waveforms; when there are none, no noise is added.

    Returns:
        float32 [n_frames, n_mels], spec.shape.
    """
    definition = define(spec, spec.n_samples)
    x = energies(waveform, drawn.pitch, definition.n_frames, spec)
    x *= np.float32(10 ** (drawn.amplitude_db / 10))
    if len(noises):
        pitch, time = _factor(settings.pitch, random.rng), _factor(settings.time, random.rng)
        noise, name = background(round(spec.n_samples / time), random, noises, spec.sample_rate_hz)
        snr_db = int(random.rng.integers(settings.snr_db[0], settings.snr_db[1] + 1))
        x = add_noise(x, energies(noise, pitch, definition.n_frames, spec), snr_db)
        random.changes.append(f"{name} at {snr_db} dB SNR (frequencies x {pitch:.2f}, duration x {time:.2f})")
    return finish(x[None], definition, np)[0].astype(np.float32, copy=False)


def add_noise(x: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Band energies with those of noise, whose sum is `snr_db` below; silence adds nothing."""
    total = float(noise.sum())
    return x + noise * np.float32(float(x.sum()) / total * 10 ** (-snr_db / 10)) if total > 0 else x


def energies(waveform: np.ndarray, pitch: float, n_frames: int, spec: FrontEnd) -> np.ndarray:
    """Band energies of a waveform at another pitch and in another length.

    Args:
        waveform: float32 [n].
        pitch: Factor of all frequencies.
        n_frames: Frames wanted.
        spec: The front-end.

    Returns:
        float32 [n_frames, spec.n_mels].
    """
    power = log_mel(waveform, power_of(spec))[0]
    power = nearest(transpose(power, pitch), n_frames, 0)
    bands = define(spec, spec.n_samples).bands
    first, last = define(spec, spec.n_samples).bins
    return power[:, first:last] @ bands[:, first:last].T.astype(np.float32)


def transpose(power: np.ndarray, pitch: float) -> np.ndarray:
    """A power spectrogram [n_frames, n_bins] with all frequencies times `pitch`; what stays empty is the median."""
    n_bins = power.shape[1]
    n_moved = round(n_bins * pitch)
    moved = nearest(power, n_moved, 1)[:, :n_bins]
    if n_moved >= n_bins:
        return moved
    return np.pad(moved, ((0, 0), (0, n_bins - n_moved)), constant_values=np.median(power))


def nearest(x: np.ndarray, size: int, axis: int) -> np.ndarray:
    """An array with `size` cells along an axis, each the one below its place."""
    return x.take(np.arange(size) * x.shape[axis] // size, axis)


def _factor(between: tuple[float, float], rng: Generator) -> float:
    """Between the two, uniform in octaves."""
    return float(between[0] * (between[1] / between[0]) ** rng.random())


@functools.lru_cache(maxsize=16)
def power_of(spec: FrontEnd) -> FrontEnd:
    """The front-end up to the power spectrogram [n_frames, n_fft / 2]; the bin at Nyquist is left out."""
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
