"""Changes of the waveform against their definitions, and the descriptions of them."""

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.signal

from birdnet_fs.batches.augment import waveform as aug
from birdnet_fs.batches.augment.item_random import ItemKey, ItemRandom
from birdnet_fs.batches.augment.waveform import Partner
from birdnet_fs.schema import Augmentation, Filters, Mixup, Noise, Shift

RATE = 32_000


def tone(hz: float, n: int = RATE, amplitude: float = 0.1) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(n) / RATE)).astype(np.float32)


def apply(
    waveform: np.ndarray,
    settings: Augmentation,
    place: int = 0,
    *,
    batch: int = 0,
    multi_label: bool = False,
    noises: Sequence[np.ndarray] = (),
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    item_random = ItemRandom(0, ItemKey(0, place, 0, batch))
    changed, targets = aug.augment_waveform(
        waveform,
        np.array([1, 0], np.float32),
        settings,
        item_random,
        sample_rate_hz=RATE,
        multi_label=multi_label,
        partner=lambda n: Partner(tone(5000, n), np.array([0, 1], np.float32), "other.wav"),
        noises=noises,
    )
    return changed, targets, item_random.changes


def test_defaults_change_and_describe_nothing() -> None:
    waveform, targets, words = apply(tone(1000), Augmentation())
    np.testing.assert_array_equal(waveform, tone(1000))
    np.testing.assert_array_equal(targets, [1, 0])
    assert words == []


def test_segments_depend_on_the_key() -> None:
    everything = Augmentation(
        noise=Noise(1), eq_db=6, gain_db=6, mixup=Mixup(1), shift=Shift(1), filters=Filters(low_pass_p=1), pad_p=1
    )
    given = tone(1000)
    first, again, other = (apply(given, everything, place) for place in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    assert first[2] == again[2] != other[2]
    assert np.abs(first[0] - other[0]).max() > 1e-3
    np.testing.assert_array_equal(given, tone(1000))  # the argument is not modified


@pytest.mark.parametrize("exponent", [(0.0, 0.0), (1.0, 2.0)])
def test_noise_has_its_snr(exponent: tuple[float, float]) -> None:
    for snr_db in (-6.0, 0.0, 12.0):
        settings = Augmentation(noise=Noise(1, snr_db=(snr_db, snr_db), exponent=exponent))
        changed, _, words = apply(tone(1000), settings)
        added = changed - tone(1000)
        measured = 10 * np.log10(np.mean(tone(1000) ** 2) / np.mean(added**2))
        assert measured == pytest.approx(snr_db, abs=0.01)  # float32 sums
        assert words == [f"{'white noise' if exponent[1] == 0 else words[0].split(' at ')[0]} at {snr_db:.1f} dB SNR"]


def test_noise_comes_from_background_recordings() -> None:
    background = tone(7000, 3 * RATE)
    changed, _, words = apply(tone(1000), Augmentation(noise=Noise(1, snr_db=(0, 0))), noises=[background])
    hz, power = scipy.signal.periodogram(changed, RATE)
    assert set(np.round(hz[np.argsort(power)[-2:]])) == {1000, 7000}
    assert words == ["background 0 at 0.0 dB SNR"]


def test_mixup_shares_power_and_labels() -> None:
    mixed = aug.mix(tone(1000), tone(5000, amplitude=0.5), 0.8)
    hz, power = scipy.signal.periodogram(mixed, RATE)
    at = {f: power[np.argmin(np.abs(hz - f))] for f in (1000, 5000)}
    assert at[1000] / (at[1000] + at[5000]) == pytest.approx(0.8, abs=0.01)
    assert aug.rms(mixed) == pytest.approx(aug.rms(tone(1000)), rel=0.01)
    mixed, soft, words = apply(tone(1000), Augmentation(mixup=Mixup(1)))
    assert soft.sum() == pytest.approx(1)
    assert soft[0] >= 0.5
    hz, power = scipy.signal.periodogram(mixed, RATE)
    at = {f: power[np.argmin(np.abs(hz - f))] for f in (1000, 5000)}
    assert at[1000] / (at[1000] + at[5000]) == pytest.approx(soft[0], abs=0.01)  # targets are shares of power
    assert words == [f"{soft[1]:.0%} of the power from other.wav"]


@pytest.mark.parametrize(
    ("labels", "multi_label", "union"),
    [("auto", True, True), ("auto", False, False), ("union", False, True), ("shares", True, False)],
)
def test_mixup_targets_are_union_or_shares(labels: str, multi_label: bool, union: bool) -> None:
    _, targets, _ = apply(tone(1000), Augmentation(mixup=Mixup(1, labels=labels)), multi_label=multi_label)
    assert (targets.tolist() == [1, 1]) is union
    assert union or targets.sum() == pytest.approx(1)


@pytest.mark.parametrize(("labels", "multi_label"), [("union", True), ("shares", False)])
def test_columns_that_are_no_classes_are_mixed_in_shares(labels: str, multi_label: bool) -> None:
    """Also negative ones, which are unknown targets where they are classes, and also where classes are the union."""
    first, second = np.array([1, 0, -3, 5], np.float32), np.array([0, 1, 1, -1], np.float32)
    mixed = aug.mixed_targets(first, second, 0.75, labels, multi_label, n_values=2)
    assert mixed.tolist() == [*([1, 1] if labels == "union" else [0.75, 0.25]), -2.0, 3.5]


def test_mixup_share_can_be_drawn_per_batch() -> None:
    settings = Augmentation(mixup=Mixup(0.5, per="batch"))
    shares = [[float(apply(tone(1000), settings, 8 * b + i, batch=b)[1][0]) for i in range(8)] for b in range(20)]
    assert all(len(set(batch)) == 1 for batch in shares)
    mixed = [batch[0] for batch in shares if batch[0] < 1]
    assert 4 <= len(mixed) <= 16 and len(set(mixed)) == len(mixed)  # half of the batches, each its own


@pytest.mark.parametrize("fill", ["wrap", "silence"])
def test_shift_moves_and_fills(fill: str) -> None:
    waveform = np.arange(1, 1001, dtype=np.float32)
    for n_samples in (-300, 0, 1, 999):
        moved = aug.shift(waveform, n_samples, fill)
        for at in (0, 350, 999):
            source = at - n_samples
            inside = 0 <= source < 1000
            assert moved[at] == (waveform[source % 1000] if inside or fill == "wrap" else 0)
    settings = Augmentation(shift=Shift(1, longest=0.1, fill=fill))
    middle = {int(np.flatnonzero(apply(waveform, settings, place)[0] == 501)[0]) for place in range(200)}
    assert 400 <= min(middle) < 410 and 590 < max(middle) <= 600


def test_filters_and_equalizer_act_together() -> None:
    settings = Augmentation(filters=Filters(low_pass_p=1, low_pass_hz=(4000, 4000), high_pass_p=1), eq_db=0.0)
    for hz, least_db, most_db in ((30, -99, -15), (4000, -3.5, -2.9), (16_000 - 100, -30, -22)):
        changed, _, words = apply(tone(hz), settings)
        change_db = 20 * np.log10(aug.rms(changed) / aug.rms(tone(hz)))
        assert least_db < change_db < most_db, hz
    assert words[0] == "low-pass at 4000 Hz" and words[1].startswith("high-pass at ")
    assert len(apply(tone(1000), Augmentation(eq_db=3))[2][0].split()) == 1 + 6 + 1


def test_gain_stays_within_its_bounds() -> None:
    gains = [
        20 * np.log10(aug.rms(apply(tone(1000), Augmentation(gain_db=6), p)[0]) / aug.rms(tone(1000)))
        for p in range(200)
    ]
    assert -6.001 < min(gains) < -5 and 5 < max(gains) < 6.001


def test_pad_silences_the_end_only() -> None:
    waveform = tone(1000)
    ends = set()
    for place in range(100):
        changed, _, _ = apply(waveform, Augmentation(pad_p=0.5), place)
        end = len(np.trim_zeros(changed, "b"))
        np.testing.assert_array_equal(changed[:end], waveform[:end])
        ends.add(end)
    assert min(ends) >= aug.SHORTEST_REST * len(waveform) - 2 and max(ends) >= len(waveform) - 2
    assert 30 < len(ends) < 75
