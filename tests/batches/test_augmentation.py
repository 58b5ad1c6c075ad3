import numpy as np
import pytest
import scipy.signal

from birdnet_fs.batches import augmentation as aug
from birdnet_fs.schema import Augmentation

RATE = 32_000


def tone(hz: float, n: int = RATE, amplitude: float = 0.1) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(n) / RATE)).astype(np.float32)


def apply(waveform, settings, seed=0, multi_label=False, noises=()):
    targets, other = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    rng = np.random.default_rng(seed)
    partner = lambda _: (tone(5000), other)  # noqa: E731
    return aug.augment_waveform(
        waveform, targets, settings, rng, sample_rate_hz=RATE, multi_label=multi_label, partner=partner, noises=noises
    )


def test_nothing_set_changes_nothing() -> None:
    waveform, targets = apply(tone(1000), Augmentation())
    np.testing.assert_array_equal(waveform, tone(1000))
    np.testing.assert_array_equal(targets, [1, 0])
    features = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    np.testing.assert_array_equal(aug.augment_features(features, Augmentation(), np.random.default_rng(0)), features)


def test_the_same_key_gives_the_same_segment_and_another_key_another() -> None:
    everything = Augmentation(noise_p=1, eq_db=6, gain_db=6, mixup_p=1)
    first, again, other = (apply(tone(1000), everything, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_noise_lies_at_its_snr() -> None:
    waveform, noise = tone(1000), np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    for snr_db in (-6.0, 0.0, 12.0):
        added = aug.add_noise(waveform, noise, snr_db) - waveform
        measured = 10 * np.log10(np.mean(waveform**2) / np.mean(added**2))
        assert measured == pytest.approx(snr_db, abs=0.01)  # float32 sums


def test_mixup_shares_power_and_labels() -> None:
    mixed = aug.mix(tone(1000), tone(5000, amplitude=0.5), 0.8)
    hz, power = scipy.signal.periodogram(mixed, RATE)
    at = {f: power[np.argmin(np.abs(hz - f))] for f in (1000, 5000)}
    assert at[1000] / (at[1000] + at[5000]) == pytest.approx(0.8, abs=0.01)
    assert aug.rms(mixed) == pytest.approx(aug.rms(tone(1000)), rel=0.01)
    _, soft = apply(tone(1000), Augmentation(mixup_p=1))
    assert soft.sum() == pytest.approx(1)
    assert soft[0] >= 0.5
    _, union = apply(tone(1000), Augmentation(mixup_p=1), multi_label=True)
    np.testing.assert_array_equal(union, [1, 1])


def test_the_equaliser_does_what_its_gains_say() -> None:
    gains = np.array([-6.0, -3.0, 0.0, 3.0, 6.0, -6.0])
    for hz, gain in zip(np.geomspace(aug.EQ_LOWEST_HZ, RATE / 2, 6)[:-1], gains[:-1], strict=True):
        hz = round(hz)  # whole periods in the second
        change = 20 * np.log10(aug.rms(aug.equalise(tone(hz), gains, RATE)) / aug.rms(tone(hz)))
        assert change == pytest.approx(gain, abs=0.05)  # the tone is not exactly at the point


@pytest.mark.parametrize("kind", ["random", "active"])
def test_crops_have_their_length_and_come_from_the_clip(kind: str) -> None:
    rng = np.random.default_rng(0)
    clip = np.arange(3 * RATE, dtype=np.float32)
    for _ in range(20):
        segment = aug.crop(clip, RATE, rng, kind=kind, sample_rate_hz=RATE)
        np.testing.assert_array_equal(np.diff(segment), 1)
        assert len(segment) == RATE
    short = aug.crop(clip[1:101], RATE, rng, kind=kind, sample_rate_hz=RATE)
    assert len(short) == RATE
    np.testing.assert_array_equal(short[short > 0], clip[1:101])


def test_active_crops_prefer_the_song() -> None:
    rng = np.random.default_rng(0)
    clip = np.random.default_rng(1).normal(0, 0.001, 10 * RATE).astype(np.float32)
    clip[8 * RATE : 9 * RATE] += tone(4000)
    heard = {
        kind: sum(aug.rms(aug.crop(clip, 2 * RATE, rng, kind=kind, sample_rate_hz=RATE)) > 0.02 for _ in range(200))
        for kind in ("random", "active")
    }
    assert heard["active"] > 1.5 * heard["random"]


def test_a_silent_clip_can_be_cropped() -> None:
    segment = aug.crop(
        np.zeros(3 * RATE, np.float32), RATE, np.random.default_rng(0), kind="active", sample_rate_hz=RATE
    )
    np.testing.assert_array_equal(segment, 0)


def test_masks_are_of_their_size_and_filled_with_the_mean() -> None:
    features = np.random.default_rng(0).normal(size=(100, 40)).astype(np.float32)
    widths = []
    for seed in range(200):
        changed = aug.augment_features(features, Augmentation(time_masks=1), np.random.default_rng(seed))
        rows = np.flatnonzero((changed != features).any(axis=1))
        widths.append(len(rows))
        np.testing.assert_allclose(changed[rows], features.mean(), rtol=1e-6)
        assert len(rows) == 0 or rows[-1] - rows[0] + 1 == len(rows)
    assert max(widths) == 15
    assert min(widths) == 0


def test_the_shift_moves_bands_and_keeps_edges() -> None:
    features = np.tile(np.arange(10, dtype=np.float32), (3, 1))
    seen = set()
    for seed in range(50):
        shifted = aug.augment_features(features, Augmentation(freq_shift=2), np.random.default_rng(seed))
        seen.add(float(shifted[0, 5]))
        assert np.all(np.diff(shifted[0]) >= 0)
    assert seen == {3.0, 4.0, 5.0, 6.0, 7.0}


def test_noise_on_the_features_has_its_deviation_and_its_chance() -> None:
    features = np.random.default_rng(0).normal(size=(100, 40)).astype(np.float32)
    settings = Augmentation(feature_noise_p=0.3, feature_noise=0.01)
    changes = [aug.augment_features(features, settings, np.random.default_rng(i)) - features for i in range(400)]
    noisy = [change for change in changes if change.any()]
    assert 0.3 * 400 - 37 < len(noisy) < 0.3 * 400 + 37  # four standard errors
    assert np.std(noisy) == pytest.approx(0.01, rel=0.01)


def test_an_early_end_is_silent_behind_and_untouched_before() -> None:
    waveform = tone(1000)
    ends = set()
    for seed in range(100):
        changed, _ = aug.augment_waveform(
            waveform,
            np.ones(1, np.float32),
            Augmentation(pad_p=0.5),
            np.random.default_rng(seed),
            sample_rate_hz=RATE,
            multi_label=True,
            partner=lambda rng: (waveform, np.ones(1)),
            noises=[],
        )
        end = len(np.trim_zeros(changed, "b"))
        np.testing.assert_array_equal(changed[:end], waveform[:end])
        ends.add(end)
    assert min(ends) >= aug.SHORTEST_REST * len(waveform) - 2 and max(ends) >= len(waveform) - 2
    assert 30 < len(ends) < 75
