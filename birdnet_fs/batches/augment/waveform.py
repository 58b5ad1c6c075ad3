"""Changes to the waveform of a segment: mixup, shift, noise, filters, equalizer, gain, silence at the end.

Sources: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", https://arxiv.org/abs/1710.09412, here with
shares of the power, since sounds add; Ko et al. 2017, "A study on data augmentation of reverberant speech for robust
speech recognition", https://doi.org/10.1109/ICASSP.2017.7953152 (background noise at an SNR); filters and equalizer:
filters.py. Time stretch and pitch shift are applied before, with the crop (pipeline.py, stretch_pitch.py).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from birdnet_fs.batches.augment import filters
from birdnet_fs.batches.augment.crop import crop
from birdnet_fs.batches.augment.item_random import ItemRandom
from birdnet_fs.core.random_streams import Stream
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.schema import Augmentation, Mixup

SHORTEST_REST = 0.25  # share of a segment; a shorter remainder of a recording is seldom scored


class Partner(NamedTuple):
    """Another segment to mix in."""

    data: np.ndarray  # waveform [n_samples], or features [n_frames, n_mels]
    targets: np.ndarray  # [n_classes]
    name: str  # for the description of the change
    teacher_features: tuple[np.ndarray, ...] = ()  # its features from other front-ends (teacher_features.py)


def rms(waveform: np.ndarray) -> float:
    """Root mean square of a waveform [n_samples], always above 0."""
    return float(np.sqrt(np.einsum("i,i", waveform, waveform) / len(waveform) + 1e-12))  # einsum makes no copy


def mix(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Mix two segments, scaled to the level of the first.

    Args:
        first: float32 [n_samples].
        second: float32 [n_samples].
        share: Share of the power that comes from the first, in 0..1.

    Returns:
        float32 [n_samples].
    """
    mixed = second * np.float32(np.sqrt(1 - share) * rms(first) / rms(second))
    mixed += np.float32(np.sqrt(share)) * first
    return mixed


def mixed_targets(
    first: np.ndarray, second: np.ndarray, share: float, labels: str, multi_label: bool, n_values: int = 0
) -> np.ndarray:
    """Targets of a mixture.

    A class that is unknown in one of the two (a target below 0) is unknown in the mixture, unless it is in the union.

    Args:
        first: float32 [n_classes], targets of the first segment.
        second: float32 [n_classes], targets of the second.
        share: Share of the first segment, in 0..1.
        labels: "union", "shares" or "auto", see `schema.Mixup`.
        multi_label: Whether "auto" means the union.
        n_values: Number of last columns that are no classes but any numbers, of which a mixture has the mean, weighted
            by the shares. Default: 0.

    Returns:
        float32 [n_classes].

    >>> mixed_targets(np.array([-1.0, -1.0, 0.0]), np.array([1.0, 0.0, 1.0]), 0.5, "union", True).tolist()
    [1.0, -1.0, 1.0]
    """
    if n_values:
        classes = mixed_targets(first[:-n_values], second[:-n_values], share, labels, multi_label)
        values = share * first[-n_values:] + (1 - share) * second[-n_values:]
        return np.concatenate([classes, values]).astype(np.float32)
    if labels == "union" or (labels == "auto" and multi_label):
        larger = np.maximum(first, second)
        return np.where(larger > 0, larger, np.minimum(first, second))
    mixed = share * first + (1 - share) * second
    return np.where((first < 0) | (second < 0), -1, mixed).astype(np.float32)


def add_noise(waveform: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise at a signal-to-noise ratio.

    Args:
        waveform: float32 [n_samples].
        noise: float32 [n_samples], of any level.
        snr_db: Level of the segment over the noise, in dB.

    Returns:
        float32 [n_samples].
    """
    scale = rms(waveform) / rms(noise) * 10 ** (-snr_db / 20)
    return (waveform + scale * noise).astype(np.float32)


def shift(waveform: np.ndarray, n_samples: int, fill: str) -> np.ndarray:
    """Shift a segment in time.

    Args:
        waveform: [n].
        n_samples: Number of samples to delay by, negative to advance; its magnitude is below n.
        fill: "wrap" (samples that leave at one end enter at the other) or "silence".

    Returns:
        [n], a copy.
    """
    moved = np.roll(waveform, n_samples)
    if fill == "silence":
        moved[: max(n_samples, 0)] = 0
        moved[len(moved) + min(n_samples, 0) :] = 0
    return moved


def draw_mixup_share(settings: Mixup, item_random: ItemRandom) -> float | None:
    """Draw whether to mix, and the share of the first segment.

    Args:
        settings: Probability of a mixture, its Beta distribution, and whether a batch shares the draw.
        item_random: Generators of the item.

    Returns:
        The share in 0..1, or None for no mixture.
    """
    rng = item_random.generator(settings.per, Stream.BATCH_MIXUP)
    if settings.p and rng.random() < settings.p:
        return float(rng.beta(settings.alpha, settings.alpha))
    return None


def augment_waveform(
    waveform: np.ndarray,
    targets: np.ndarray,
    settings: Augmentation,
    item_random: ItemRandom,
    *,
    sample_rate_hz: int,
    multi_label: bool,
    partner: Callable[[int], Partner],
    noises: Waveforms | Sequence[np.ndarray] = (),
    n_values: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Apply the changes of the waveform to one segment.

    Args:
        waveform: Segment, float32 [n_samples]; not modified.
        targets: float32 [n_classes]; not modified.
        settings: Changes to apply, and their strengths.
        item_random: Generators of the item; descriptions of the changes are appended to it.
        sample_rate_hz: Sample rate of the segment.
        multi_label: Whether the targets of a mixup are the union, where `settings.mixup.labels` is "auto".
        partner: Draws another segment of the given number of samples.
        noises: Background waveforms. Default: (), noise is synthesized.
        n_values: Number of last columns of the targets that are no classes (`mixed_targets`). Default: 0.

    Returns:
        The changed segment float32 [n_samples] and its targets float32 [n_classes].
    """
    rng, describe = item_random.rng, item_random.changes.append
    if settings.mixup.on == "waveform" and (share := draw_mixup_share(settings.mixup, item_random)) is not None:
        share = max(share, 1 - share)
        other = partner(len(waveform))
        waveform = mix(waveform, other.data, share)
        targets = mixed_targets(targets, other.targets, share, settings.mixup.labels, multi_label, n_values)
        describe(f"{1 - share:.0%} of the power from {other.name}")
    if settings.shift.p and rng.random() < settings.shift.p:
        n_samples = int(rng.uniform(-settings.shift.longest, settings.shift.longest) * len(waveform))
        waveform = shift(waveform, n_samples, settings.shift.fill)
        describe(f"{n_samples / sample_rate_hz:+.2f} s in time")
    if settings.noise.p and rng.random() < settings.noise.p:
        noise, name = _noise(len(waveform), settings, item_random, noises, sample_rate_hz)
        snr_db = rng.uniform(*settings.noise.snr_db)
        waveform = add_noise(waveform, noise, snr_db)
        describe(f"{name} at {snr_db:.1f} dB SNR")
    gain_db = _filters(len(waveform), settings, item_random, sample_rate_hz)
    if gain_db is not None:
        waveform = filters.change_spectrum(waveform, gain_db)
    if settings.gain_db:
        louder_db = rng.uniform(-settings.gain_db, settings.gain_db)
        waveform = waveform * np.float32(10 ** (louder_db / 20))
        describe(f"{louder_db:+.1f} dB")
    if settings.pad_p and rng.random() < settings.pad_p:
        end = int(rng.uniform(SHORTEST_REST, 1.0) * len(waveform))
        waveform = waveform.copy()
        waveform[end:] = 0
        describe(f"silent from {end / sample_rate_hz:.2f} s on")
    return waveform, targets.astype(np.float32)


def _noise(
    n_samples: int,
    settings: Augmentation,
    item_random: ItemRandom,
    noises: Waveforms | Sequence[np.ndarray],
    sample_rate_hz: int,
) -> tuple[np.ndarray, str]:
    """Noise of any level [n_samples], and its description."""
    if len(noises):
        return background(n_samples, item_random, noises, sample_rate_hz)
    low, high = settings.noise.exponent
    if (low, high) == (0.0, 0.0):
        return item_random.rng.standard_normal(n_samples, dtype=np.float32), "white noise"
    exponent = item_random.rng.uniform(low, high)
    noise = filters.colored_noise(n_samples, exponent, item_random.rng, sample_rate_hz)
    return noise, f"noise of 1 / f ** {exponent:.1f}"


def background(
    n_samples: int, item_random: ItemRandom, noises: Waveforms | Sequence[np.ndarray], sample_rate_hz: int
) -> tuple[np.ndarray, str]:
    """Draw a segment of a background recording.

    Args:
        n_samples: Length of the segment.
        item_random: Generators of the item.
        noises: Background waveforms, at least one.
        sample_rate_hz: Sample rate of the waveforms.

    Returns:
        The segment, float32 [n_samples], and the name of its recording.
    """
    number = int(item_random.rng.integers(len(noises)))
    noise = crop(noises[number], n_samples, item_random.rng, sample_rate_hz=sample_rate_hz)
    name = noises.clips[number].path.name if isinstance(noises, Waveforms) else f"background {number}"
    return noise, name


def _filters(n_samples: int, settings: Augmentation, item_random: ItemRandom, sample_rate_hz: int) -> np.ndarray | None:
    """Sum of the gains of all filters that are drawn, in dB for each bin of the segment's FFT; None for no filter."""
    rng, chosen = item_random.rng, settings.filters
    gains = []
    for kind, make in (("low", filters.low_pass), ("high", filters.high_pass)):
        p, (low, high) = getattr(chosen, f"{kind}_pass_p"), getattr(chosen, f"{kind}_pass_hz")
        if p and rng.random() < p:
            cutoff_hz = low * (high / low) ** rng.random()
            gains.append(make(cutoff_hz, chosen.db_per_octave, n_samples, sample_rate_hz))
            item_random.changes.append(f"{kind}-pass at {cutoff_hz:.0f} Hz")
    if settings.eq_db:
        points = rng.uniform(-settings.eq_db, settings.eq_db, filters.N_EQ_POINTS)
        gains.append(filters.equalizer(points, n_samples, sample_rate_hz))
        item_random.changes.append("equalizer " + " ".join(f"{gain:+.0f}" for gain in points) + " dB")
    return sum(gains[1:], gains[0]) if gains else None
