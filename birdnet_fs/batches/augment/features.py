"""Changes to the features of a segment: shift, warp, masks, noise, levels; then mixup and CutMix of two segments.

Sources: Park et al. 2019, "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition",
https://arxiv.org/abs/1904.08779 (masks and time warp); Jaitly and Hinton 2013, "Vocal Tract Length Perturbation (VTLP)
improves speech recognition" (warp of the bands); Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization",
https://arxiv.org/abs/1710.09412; Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with
Localizable Features", https://arxiv.org/abs/1905.04899. Levels (contrast and brightness) follow a BirdCLEF 2025 plan.
All changes work on one item in numpy.
"""

from collections.abc import Callable

import numpy as np

from birdnet_fs.batches.augment.item_random import ItemRandom
from birdnet_fs.batches.augment.waveform import Partner, draw_mixup_share, mixed_targets
from birdnet_fs.core.random_streams import Stream
from birdnet_fs.schema import Augmentation, CutMix, Masks

Rectangle = tuple[slice, slice]  # frames and bands
MixCallback = Callable[[Partner, float, Rectangle | None], None]


def augment_features(
    features: np.ndarray, settings: Augmentation, item_random: ItemRandom, *, within: tuple[float, float] | None = None
) -> np.ndarray:
    """Apply the changes of the features to one segment, except mixing.

    Args:
        features: [n_frames, n_mels]; not modified.
        settings: Changes to apply, and their strengths.
        item_random: Generators of the item; descriptions of the changes are appended to it.
        within: Range of the front-end's features, to which changed levels are clipped. Default: None, not clipped.

    Returns:
        float32 [n_frames, n_mels].
    """
    rng, describe = item_random.rng, item_random.changes.append
    features = np.array(features, np.float32)
    if settings.features_p < 1 and rng.random() >= settings.features_p:
        return features
    if settings.freq_shift:
        n_bands = int(rng.integers(-settings.freq_shift, settings.freq_shift + 1))
        features = features[:, np.clip(np.arange(features.shape[1]) - n_bands, 0, features.shape[1] - 1)]
        describe(f"{n_bands:+d} bands")
    if settings.warp.p and rng.random() < settings.warp.p:
        for axis, most, unit in ((0, settings.warp.time, "frames"), (1, settings.warp.freq, "bands")):
            if most:
                source, target = _warped_point(features.shape[axis], most, rng)
                features = warp(features, source, target, axis)
                describe(f"{unit} warped from {source:.0f} to {target:.0f}")
    fill = features.mean()
    _apply_masks(features, 0, settings.time_masks, fill, item_random)
    _apply_masks(features, 1, settings.freq_masks, fill, item_random)
    if settings.feature_noise.p and rng.random() < settings.feature_noise.p:
        features += settings.feature_noise.deviation * rng.standard_normal(features.shape, dtype=np.float32)
        describe(f"noise of {settings.feature_noise.deviation:g} on the features")
    if settings.levels.p and rng.random() < settings.levels.p:
        gain, bias = rng.uniform(*settings.levels.gain), rng.uniform(*settings.levels.bias)
        features *= np.float32(gain)
        features += np.float32(bias)
        if within is not None:
            np.clip(features, *within, out=features)
        describe(f"features x {gain:.2f} {bias:+.2f}")
    return features


def mix_features(
    features: np.ndarray,
    targets: np.ndarray,
    settings: Augmentation,
    item_random: ItemRandom,
    *,
    multi_label: bool,
    partner: Callable[[], Partner],
    on_mix: MixCallback | None = None,
    n_values: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Apply mixup of the features, and CutMix.

    Args:
        features: float32 [n_frames, n_mels]; not modified.
        targets: float32 [n_classes]; not modified.
        settings: Kinds of mixing to apply, and their strengths.
        item_random: Generators of the item; descriptions of the changes are appended to it.
        multi_label: Whether the targets of a mixup are the union, where `settings.mixup.labels` is "auto".
        partner: Draws another segment, with features augmented in the same way.
        on_mix: Called for every mixture with the partner, the share of the first segment and, for CutMix, the
            rectangle that comes from the partner (mixup: None). Default: None, not called.
        n_values: Number of last columns of the targets that are no classes (`mixed_targets`). Default: 0.

    Returns:
        The mixed features float32 [n_frames, n_mels] and targets float32 [n_classes].
    """
    if settings.mixup.on == "features" and (share := draw_mixup_share(settings.mixup, item_random)) is not None:
        other = partner()
        features = np.float32(share) * features + np.float32(1 - share) * other.data
        targets = mixed_targets(targets, other.targets, share, settings.mixup.labels, multi_label, n_values)
        item_random.changes.append(f"{1 - share:.0%} of {other.name}")
        if on_mix is not None:
            on_mix(other, share, None)
    if settings.cutmix.p and item_random.rng.random() < settings.cutmix.p:
        frames, bands = _rectangle(features.shape, settings.cutmix, item_random.rng)
        other = partner()
        features = features.copy()
        features[frames, bands] = other.data[frames, bands]
        share = 1 - features[frames, bands].size / features.size
        targets = mixed_targets(targets, other.targets, share, "shares", multi_label, n_values)
        at = f"frames {frames.start}-{frames.stop}, bands {bands.start}-{bands.stop}"
        item_random.changes.append(f"{1 - share:.0%} cut from {other.name} ({at})")
        if on_mix is not None:
            on_mix(other, share, (frames, bands))
    return features, targets.astype(np.float32)


def warp(features: np.ndarray, source: float, target: float, axis: int) -> np.ndarray:
    """Warp an axis piecewise linearly: `source` moves to `target` and the ends stay in place.

    Args:
        features: float32 [n_frames, n_mels].
        source: Position on the axis, above 0 and below its length - 1.
        target: New position, in the same range.
        axis: 0 for frames, 1 for bands.

    Returns:
        float32 [n_frames, n_mels].
    """
    last = features.shape[axis] - 1
    place = np.interp(np.arange(last + 1), [0, target, last], [0, source, last])
    below = np.minimum(place.astype(int), max(last - 1, 0))
    rest = np.expand_dims((place - below).astype(np.float32), 1 - axis)
    first, second = features.take(below, axis), features.take(np.minimum(below + 1, last), axis)
    return first + rest * (second - first)


def _warped_point(size: int, most: float, rng: np.random.Generator) -> tuple[float, float]:
    """Position and new position of a point; its distance from the ends is at least its largest displacement."""
    reach = most * (size - 1)
    source = rng.uniform(reach, size - 1 - reach)
    return source, source + 0.99 * rng.uniform(-reach, reach)  # 0.99: the point never reaches an end


def _apply_masks(features: np.ndarray, axis: int, masks: Masks, mean: float, item_random: ItemRandom) -> None:
    """Mask stretches of an axis of `features`, in place."""
    if not masks.n:
        return
    rng = item_random.generator(masks.per, (Stream.BATCH_TIME_MASKS, Stream.BATCH_FREQUENCY_MASKS)[axis])
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
        item_random.changes.append(f"{('frames', 'bands')[axis]} {', '.join(done)} masked")


def _rectangle(shape: tuple[int, ...], settings: CutMix, rng: np.random.Generator) -> tuple[slice, slice]:
    """Frames and bands of a CutMix rectangle; its center is uniform, and parts outside the features are cut off."""
    cut = 1 - rng.beta(settings.alpha, settings.alpha)
    share = (cut, 1.0) if settings.shape == "time" else (np.sqrt(cut), np.sqrt(cut))
    sides = []
    for size, part in zip(shape, share, strict=True):
        center = 0.5 * size if part == 1.0 else rng.uniform(0, size)
        low, high = np.clip(np.round([center - part * size / 2, center + part * size / 2]), 0, size).astype(int)
        sides.append(slice(int(low), int(high)))
    return sides[0], sides[1]
