"""Changes to the waveform of a segment: mixup, shift, noise, filters, equalizer, gain, silence at the end.

Sources: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", https://arxiv.org/abs/1710.09412, here with
shares of the power, as sounds add; Ko et al. 2017, "A study on data augmentation of reverberant speech for robust
speech recognition", https://doi.org/10.1109/ICASSP.2017.7953152 (background noise at an SNR); filters and equalizer:
filters.py. Stretch and pitch come with the crop (augmentation.py, stretch.py).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from birdnet_fs.batches.augment import filters
from birdnet_fs.batches.augment.crop import crop
from birdnet_fs.batches.augment.rng import ItemRandom
from birdnet_fs.core.random_streams import Stream
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.schema import Augmentation, Mixup

SHORTEST_REST = 0.25  # share of a segment; a shorter rest of a recording is seldom scored


class Partner(NamedTuple):
    """Another item to be mixed in."""

    data: np.ndarray  # waveform [n_samples], or features [n_frames, n_mels]
    targets: np.ndarray  # [n_classes]
    name: str  # for people
    teacher_features: tuple[np.ndarray, ...] = ()  # its features by other front-ends (listeners.py)


def rms(waveform: np.ndarray) -> float:
    """Root mean square, never 0."""
    return float(np.sqrt(np.einsum("i,i", waveform, waveform) / len(waveform) + 1e-12))  # with no copy


def mix(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Two segments at the first one's level, with `share` of the power from the first."""
    mixed = second * np.float32(np.sqrt(1 - share) * rms(first) / rms(second))
    mixed += np.float32(np.sqrt(share)) * first
    return mixed


def mixed_targets(first: np.ndarray, second: np.ndarray, share: float, labels: str, multi_label: bool) -> np.ndarray:
    """Targets of a mixture of which `share` is the first: the union, or the shares (`labels` as in schema.Mixup).

    A class that is not known in one of them (a target below 0) is not known in the mixture, unless the union has it.

    >>> mixed_targets(np.array([-1.0, -1.0, 0.0]), np.array([1.0, 0.0, 1.0]), 0.5, "union", True).tolist()
    [1.0, -1.0, 1.0]
    """
    if labels == "union" or (labels == "auto" and multi_label):
        larger = np.maximum(first, second)
        return np.where(larger > 0, larger, np.minimum(first, second))
    mixed = share * first + (1 - share) * second
    return np.where((first < 0) | (second < 0), -1, mixed).astype(np.float32)


def add_noise(waveform: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """The segment with noise `snr_db` below its own level."""
    scale = rms(waveform) / rms(noise) * 10 ** (-snr_db / 20)
    return (waveform + scale * noise).astype(np.float32)


def shift(waveform: np.ndarray, n_samples: int, fill: str) -> np.ndarray:
    """The segment later by `n_samples` (earlier when negative).

    Args:
        waveform: [n].
        n_samples: Less than n either way.
        fill: "wrap" or "silence", as in schema.Shift.
    """
    moved = np.roll(waveform, n_samples)
    if fill == "silence":
        moved[: max(n_samples, 0)] = 0
        moved[len(moved) + min(n_samples, 0) :] = 0
    return moved


def drawn_mixup(settings: Mixup, random: ItemRandom) -> float | None:
    """The share of the first in a mixture, or None for no mixture."""
    rng = random.generator(settings.per, Stream.BATCH_MIXUP)
    if settings.p and rng.random() < settings.p:
        return float(rng.beta(settings.alpha, settings.alpha))
    return None


def augment_waveform(
    waveform: np.ndarray,
    targets: np.ndarray,
    settings: Augmentation,
    random: ItemRandom,
    *,
    sample_rate_hz: int,
    multi_label: bool,
    partner: Callable[[int], Partner],
    noises: Waveforms | Sequence[np.ndarray] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """The waveform stage.

    Args:
        waveform: Segment, float32 [n_samples].
        targets: float32 [n_classes].
        settings: Which changes, and how strong.
        random: Of this item.
        sample_rate_hz: Rate of the segment.
        multi_label: Whether mixed labels are the union, when the settings leave it open.
        partner: Draws another segment of so many samples.
        noises: Background waveforms; when there are none, noise is made.

    Returns:
        The changed segment and its targets; neither argument is changed.
    """
    rng, say = random.rng, random.changes.append
    if settings.mixup.on == "waveform" and (share := drawn_mixup(settings.mixup, random)) is not None:
        share = max(share, 1 - share)
        other = partner(len(waveform))
        waveform = mix(waveform, other.data, share)
        targets = mixed_targets(targets, other.targets, share, settings.mixup.labels, multi_label)
        say(f"{1 - share:.0%} of the power from {other.name}")
    if settings.shift.p and rng.random() < settings.shift.p:
        n_samples = int(rng.uniform(-settings.shift.longest, settings.shift.longest) * len(waveform))
        waveform = shift(waveform, n_samples, settings.shift.fill)
        say(f"{n_samples / sample_rate_hz:+.2f} s in time")
    if settings.noise.p and rng.random() < settings.noise.p:
        noise, name = _noise(len(waveform), settings, random, noises, sample_rate_hz)
        snr_db = rng.uniform(*settings.noise.snr_db)
        waveform = add_noise(waveform, noise, snr_db)
        say(f"{name} at {snr_db:.1f} dB SNR")
    gain_db = _filters(len(waveform), settings, random, sample_rate_hz)
    if gain_db is not None:
        waveform = filters.change_spectrum(waveform, gain_db)
    if settings.gain_db:
        louder_db = rng.uniform(-settings.gain_db, settings.gain_db)
        waveform = waveform * np.float32(10 ** (louder_db / 20))
        say(f"{louder_db:+.1f} dB")
    if settings.pad_p and rng.random() < settings.pad_p:
        end = int(rng.uniform(SHORTEST_REST, 1.0) * len(waveform))
        waveform = waveform.copy()
        waveform[end:] = 0
        say(f"silent from {end / sample_rate_hz:.2f} s on")
    return waveform, targets.astype(np.float32)


def _noise(
    n_samples: int,
    settings: Augmentation,
    random: ItemRandom,
    noises: Waveforms | Sequence[np.ndarray],
    sample_rate_hz: int,
) -> tuple[np.ndarray, str]:
    """Noise of any level, and what it is."""
    if len(noises):
        return background(n_samples, random, noises, sample_rate_hz)
    low, high = settings.noise.exponent
    if (low, high) == (0.0, 0.0):
        return random.rng.standard_normal(n_samples, dtype=np.float32), "white noise"
    exponent = random.rng.uniform(low, high)
    noise = filters.colored_noise(n_samples, exponent, random.rng, sample_rate_hz)
    return noise, f"noise of 1 / f ** {exponent:.1f}"


def background(
    n_samples: int, random: ItemRandom, noises: Waveforms | Sequence[np.ndarray], sample_rate_hz: int
) -> tuple[np.ndarray, str]:
    """A part of a background recording [n_samples], and the recording's name."""
    number = int(random.rng.integers(len(noises)))
    noise = crop(noises[number], n_samples, random.rng, sample_rate_hz=sample_rate_hz)
    name = noises.clips[number].path.name if isinstance(noises, Waveforms) else f"background {number}"
    return noise, name


def _filters(n_samples: int, settings: Augmentation, random: ItemRandom, sample_rate_hz: int) -> np.ndarray | None:
    """The gain of all filters together, in dB for each bin of the segment's FFT; None for none."""
    rng, chosen = random.rng, settings.filters
    gains = []
    for kind, make in (("low", filters.low_pass), ("high", filters.high_pass)):
        p, (low, high) = getattr(chosen, f"{kind}_pass_p"), getattr(chosen, f"{kind}_pass_hz")
        if p and rng.random() < p:
            cutoff_hz = low * (high / low) ** rng.random()
            gains.append(make(cutoff_hz, chosen.db_per_octave, n_samples, sample_rate_hz))
            random.changes.append(f"{kind}-pass at {cutoff_hz:.0f} Hz")
    if settings.eq_db:
        points = rng.uniform(-settings.eq_db, settings.eq_db, filters.N_EQ_POINTS)
        gains.append(filters.equalizer(points, n_samples, sample_rate_hz))
        random.changes.append("equalizer " + " ".join(f"{gain:+.0f}" for gain in points) + " dB")
    return sum(gains[1:], gains[0]) if gains else None
