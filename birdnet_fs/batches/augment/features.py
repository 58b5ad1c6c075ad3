"""Changes to the features of a segment: shift, warp, masks, noise, levels; then mixup and CutMix of two segments.

Sources: Park et al. 2019, "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition",
https://arxiv.org/abs/1904.08779 (masks and the time warp; the warp of the bands is its like, as in Jaitly and Hinton
2013, "Vocal Tract Length Perturbation (VTLP) improves speech recognition"); Zhang et al. 2018, "mixup: Beyond Empirical
Risk Minimization", https://arxiv.org/abs/1710.09412; Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong
Classifiers with Localizable Features", https://arxiv.org/abs/1905.04899. Levels (contrast and brightness) are those of
a BirdCLEF 2025 plan. All of it works on one item in numpy: features that are made on a GPU would need its twin there.
"""

from collections.abc import Callable

import numpy as np

from birdnet_fs.batches.augment.rng import Generator, ItemRandom
from birdnet_fs.batches.augment.waveform import Partner, drawn_mixup, mixed_targets
from birdnet_fs.core.random_streams import Stream
from birdnet_fs.schema import Augmentation, CutMix, Masks

Rectangle = tuple[slice, slice]  # frames and bands
MixCallback = Callable[[Partner, float, Rectangle | None], None]


def augment_features(
    features: np.ndarray, settings: Augmentation, random: ItemRandom, *, within: tuple[float, float] | None = None
) -> np.ndarray:
    """The feature stage on one segment.

    Args:
        features: [n_frames, n_mels]; not changed.
        settings: Which changes, and how strong.
        random: Of this item.
        within: Least and greatest value of this front-end's features, which levels keep to; None = no bounds.

    Returns:
        float32 [n_frames, n_mels].
    """
    rng, say = random.rng, random.changes.append
    features = np.array(features, np.float32)
    if settings.features_p < 1 and rng.random() >= settings.features_p:
        return features
    if settings.freq_shift:
        n_bands = int(rng.integers(-settings.freq_shift, settings.freq_shift + 1))
        features = features[:, np.clip(np.arange(features.shape[1]) - n_bands, 0, features.shape[1] - 1)]
        say(f"{n_bands:+d} bands")
    if settings.warp.p and rng.random() < settings.warp.p:
        for axis, most, unit in ((0, settings.warp.time, "frames"), (1, settings.warp.freq, "bands")):
            if most:
                source, target = _warped_point(features.shape[axis], most, rng)
                features = warp(features, source, target, axis)
                say(f"{unit} warped from {source:.0f} to {target:.0f}")
    fill = features.mean()
    _apply_masks(features, 0, settings.time_masks, fill, random)
    _apply_masks(features, 1, settings.freq_masks, fill, random)
    if settings.feature_noise.p and rng.random() < settings.feature_noise.p:
        features += settings.feature_noise.deviation * rng.standard_normal(features.shape, dtype=np.float32)
        say(f"noise of {settings.feature_noise.deviation:g} on the features")
    if settings.levels.p and rng.random() < settings.levels.p:
        gain, bias = rng.uniform(*settings.levels.gain), rng.uniform(*settings.levels.bias)
        features *= np.float32(gain)
        features += np.float32(bias)
        if within is not None:
            np.clip(features, *within, out=features)
        say(f"features x {gain:.2f} {bias:+.2f}")
    return features


def mix_features(
    features: np.ndarray,
    targets: np.ndarray,
    settings: Augmentation,
    random: ItemRandom,
    *,
    multi_label: bool,
    partner: Callable[[], Partner],
    on_mix: MixCallback | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mixup of the features, and CutMix.

    Args:
        features: float32 [n_frames, n_mels].
        targets: float32 [n_classes].
        settings: Which of them, and how strong.
        random: Of this item.
        multi_label: Whether labels of a mixup are the union, when the settings leave it open.
        partner: Draws another segment's features, changed as this one's were.
        on_mix: Is given every mixture: the partner, the share of the first, and in CutMix the partner's rectangle.

    Returns:
        The mixed features and targets; neither argument is changed.
    """
    if settings.mixup.on == "features" and (share := drawn_mixup(settings.mixup, random)) is not None:
        other = partner()
        features = np.float32(share) * features + np.float32(1 - share) * other.data
        targets = mixed_targets(targets, other.targets, share, settings.mixup.labels, multi_label)
        random.changes.append(f"{1 - share:.0%} of {other.name}")
        if on_mix is not None:
            on_mix(other, share, None)
    if settings.cutmix.p and random.rng.random() < settings.cutmix.p:
        frames, bands = _rectangle(features.shape, settings.cutmix, random.rng)
        other = partner()
        features = features.copy()
        features[frames, bands] = other.data[frames, bands]
        share = 1 - features[frames, bands].size / features.size
        targets = mixed_targets(targets, other.targets, share, "shares", multi_label)
        at = f"frames {frames.start}-{frames.stop}, bands {bands.start}-{bands.stop}"
        random.changes.append(f"{1 - share:.0%} cut from {other.name} ({at})")
        if on_mix is not None:
            on_mix(other, share, (frames, bands))
    return features, targets.astype(np.float32)


def warp(features: np.ndarray, source: float, target: float, axis: int) -> np.ndarray:
    """Features in which what lay at `source` lies at `target`, with straight lines between it and the ends.

    Args:
        features: float32 [n_frames, n_mels].
        source: Place on the axis, inside it.
        target: Place on the axis, inside it.
        axis: 0 for frames, 1 for bands.
    """
    last = features.shape[axis] - 1
    place = np.interp(np.arange(last + 1), [0, target, last], [0, source, last])
    below = np.minimum(place.astype(int), max(last - 1, 0))
    rest = np.expand_dims((place - below).astype(np.float32), 1 - axis)
    first, second = features.take(below, axis), features.take(np.minimum(below + 1, last), axis)
    return first + rest * (second - first)


def _warped_point(size: int, most: float, rng: Generator) -> tuple[float, float]:
    """Place and new place of a point at least as far from the ends as it may move."""
    reach = most * (size - 1)
    source = rng.uniform(reach, size - 1 - reach)
    return source, source + 0.99 * rng.uniform(-reach, reach)  # never quite the end


def _apply_masks(features: np.ndarray, axis: int, masks: Masks, mean: float, random: ItemRandom) -> None:
    """Wipe out stretches of an axis of `features`."""
    if not masks.n:
        return
    rng = random.generator(masks.per, (Stream.BATCH_TIME_MASKS, Stream.BATCH_FREQUENCY_MASKS)[axis])
    if masks.p < 1 and rng.random() >= masks.p:
        return
    size = features.shape[axis]
    shortest, longest = masks.lengths if masks.lengths[1] else (0, int(masks.longest * size))
    done = []
    for _ in range(int(rng.integers(1, masks.n + 1)) if masks.fewer else masks.n):
        length = int(rng.integers(shortest, longest + 1))
        onset = int(rng.integers(0, size - length + 1))
        features[(slice(None),) * axis + (slice(onset, onset + length),)] = mean if masks.fill == "mean" else 0.0
        done += [f"{onset}-{onset + length}"] if length else []
    if done:
        random.changes.append(f"{('frames', 'bands')[axis]} {', '.join(done)} masked")


def _rectangle(shape: tuple[int, ...], settings: CutMix, rng: Generator) -> tuple[slice, slice]:
    """The frames and bands that are cut out: their center is anywhere, so that they may overhang and are cut off."""
    cut = 1 - rng.beta(settings.alpha, settings.alpha)
    share = (cut, 1.0) if settings.shape == "time" else (np.sqrt(cut), np.sqrt(cut))
    sides = []
    for size, part in zip(shape, share, strict=True):
        center = 0.5 * size if part == 1.0 else rng.uniform(0, size)
        low, high = np.clip(np.round([center - part * size / 2, center + part * size / 2]), 0, size).astype(int)
        sides.append(slice(int(low), int(high)))
    return sides[0], sides[1]
