"""Changes of the features against their definitions, scipy and the bounds of their settings."""

import numpy as np
import pytest
import scipy.ndimage

from birdnet_fs.batches.augment.features import augment_features, mix_features, warp
from birdnet_fs.batches.augment.item_random import ItemKey, ItemRandom
from birdnet_fs.batches.augment.waveform import Partner
from birdnet_fs.schema import Augmentation, CutMix, FeatureNoise, Levels, Masks, Mixup, Warp

FEATURES = np.random.default_rng(0).normal(size=(100, 40)).astype(np.float32)


def item_random(place: int = 0, batch: int = 0) -> ItemRandom:
    return ItemRandom(0, ItemKey(0, place, 0, batch))


def change(settings: Augmentation, place: int = 0, features: np.ndarray = FEATURES, **more) -> np.ndarray:
    return augment_features(features, settings, item_random(place), **more)


def mixed(settings: Augmentation, place: int = 0, batch: int = 0, multi_label: bool = False):
    ones = Partner(np.ones_like(FEATURES), np.array([0, 1], np.float32), "other.wav")
    return mix_features(
        np.zeros_like(FEATURES),
        np.array([1, 0], np.float32),
        settings,
        item_random(place, batch),
        multi_label=multi_label,
        partner=lambda: ones,
    )


def test_defaults_change_nothing() -> None:
    np.testing.assert_array_equal(change(Augmentation()), FEATURES)
    features, targets = mixed(Augmentation())
    assert not features.any() and targets.tolist() == [1, 0]


@pytest.mark.parametrize("axis", [0, 1])
def test_masks_have_their_size_and_the_mean(axis: int) -> None:
    settings = Augmentation(**{("time_masks", "freq_masks")[axis]: Masks(1)})
    lengths = []
    for place in range(300):
        changed = change(settings, place)
        lines = np.flatnonzero((changed != FEATURES).any(axis=1 - axis))
        lengths.append(len(lines))
        np.testing.assert_allclose(changed.take(lines, axis), FEATURES.mean(), rtol=1e-6)
        assert len(lines) == 0 or lines[-1] - lines[0] + 1 == len(lines)
    assert max(lengths) == (15, 6)[axis]
    assert min(lengths) == 0


def test_masks_follow_count_length_and_probability() -> None:
    masks = Masks(3, lengths=(5, 7), fewer=True, p=0.5, fill="zero")
    found = []
    for place in range(300):
        current = item_random(place)
        changed = augment_features(FEATURES, Augmentation(time_masks=masks), current)
        _, n_runs = scipy.ndimage.label((changed == 0).all(axis=1))
        found.append(len(current.changes[0].split(", ")) if current.changes else 0)
        assert (n_runs == 0) == (not current.changes) and n_runs <= found[-1]
        if found[-1] == 1:
            assert 5 <= (changed == 0).all(axis=1).sum() <= 7
    counts = np.bincount(found)
    assert abs(counts[0] - 150) < 35 and (counts[1:] > 25).all() and len(counts) == 4  # four standard errors


def test_freq_shift_moves_bands_and_repeats_edges() -> None:
    features = np.tile(np.arange(10, dtype=np.float32), (3, 1))
    seen = set()
    for place in range(50):
        shifted = change(Augmentation(freq_shift=2), place, features)
        seen.add(float(shifted[0, 5]))
        assert np.all(np.diff(shifted[0]) >= 0)
    assert seen == {3.0, 4.0, 5.0, 6.0, 7.0}


def test_feature_noise_has_its_deviation_and_probability() -> None:
    settings = Augmentation(feature_noise=FeatureNoise(0.3, deviation=0.01))
    changes = [change(settings, i) - FEATURES for i in range(400)]
    noisy = [c for c in changes if c.any()]
    assert 0.3 * 400 - 37 < len(noisy) < 0.3 * 400 + 37  # four standard errors
    assert np.std(noisy) == pytest.approx(0.01, rel=0.01)


def test_levels_are_linear_and_clipped() -> None:
    in_unit = np.random.default_rng(1).uniform(size=(50, 20)).astype(np.float32)
    gains, biases = [], []
    for place in range(200):
        gain, bias = np.polyfit(in_unit.ravel(), change(Augmentation(levels=Levels(1)), place, in_unit).ravel(), 1)
        gains.append(gain)
        biases.append(bias)
        kept = change(Augmentation(levels=Levels(1)), place, in_unit, within=(0.0, 1.0))
        np.testing.assert_allclose(kept, np.clip(gain * in_unit + bias, 0, 1), atol=1e-5)  # a fit in float32
    assert 0.799 < min(gains) < 0.81 and 1.19 < max(gains) < 1.201
    assert -0.101 < min(biases) < -0.09 and 0.09 < max(biases) < 0.101


@pytest.mark.parametrize("axis", [0, 1])
def test_warp_moves_its_point_and_keeps_the_ends(axis: int) -> None:
    place = np.arange(FEATURES.shape[axis], dtype=np.float32)
    ramp = np.broadcast_to(place[:, None] if axis == 0 else place, FEATURES.shape)
    moved = warp(np.ascontiguousarray(ramp), 12.0, 17.0, axis).take(0, 1 - axis)
    assert moved[[0, 17, -1]].tolist() == [0, 12, place[-1]]
    assert (np.diff(moved) > 0).all()
    # bilinear, as scipy reads between the cells
    where = np.interp(place, [0, 17, place[-1]], [0, 12, place[-1]])
    grid = np.meshgrid(*(where if i == axis else np.arange(n) for i, n in enumerate(FEATURES.shape)), indexing="ij")
    by_scipy = scipy.ndimage.map_coordinates(FEATURES, grid, order=1)
    np.testing.assert_allclose(warp(FEATURES, 12.0, 17.0, axis), by_scipy, atol=1e-5)


def test_warps_stay_within_their_bounds() -> None:
    ramp = np.repeat(np.arange(100, dtype=np.float32)[:, None], 40, axis=1)
    furthest = [np.abs(change(Augmentation(warp=Warp(1, time=0.1)), p, ramp) - ramp).max() for p in range(200)]
    assert 7 < max(furthest) <= 9.9
    np.testing.assert_array_equal(change(Augmentation(warp=Warp(1, time=0.0, freq=0.0))), FEATURES)


def test_features_p_applies_to_all_changes() -> None:
    settings = Augmentation(features_p=0.5, freq_masks=Masks(1, lengths=(4, 4)), levels=Levels(1))
    changed = [(change(settings, place) != FEATURES).any() for place in range(400)]
    assert 160 < sum(changed) < 240  # four standard errors


@pytest.mark.parametrize("multi_label", [False, True])
def test_mixup_of_features_is_the_weighted_mean(multi_label: bool) -> None:
    shares = []
    for place in range(300):
        features, targets = mixed(Augmentation(mixup=Mixup(1, alpha=0.5, on="features")), place, 0, multi_label)
        share = 1 - features[0, 0]
        assert (features == features[0, 0]).all()
        np.testing.assert_allclose(targets, [1, 1] if multi_label else [share, 1 - share], atol=1e-6)
        shares.append(share)
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * np.sqrt(0.125 / 300))
    assert np.var(shares) == pytest.approx(0.125, rel=0.2)  # of Beta(.5, .5)
    assert len({mixed(Augmentation(mixup=Mixup(1, on="features", per="batch")), p)[0][0, 0] for p in range(5)}) == 1


@pytest.mark.parametrize("shape", ["box", "time"])
def test_cutmix_shares_labels_by_area(shape: str) -> None:
    shares = []
    for place in range(300):
        features, targets = mixed(Augmentation(cutmix=CutMix(1, shape=shape)), place)
        assert set(np.unique(features)) <= {0, 1}
        assert targets[1] == pytest.approx(features.mean(), abs=1e-6)
        assert targets.sum() == pytest.approx(1)
        frames, bands = features.any(axis=1), features.any(axis=0)
        assert features.sum() == frames.sum() * bands.sum()  # one rectangle
        assert shape == "box" or not features.any() or bands.all()
        shares.append(targets[1])
    assert max(shares) > 0.8 and min(shares) < 0.05
