"""ANIMAL-SPOT's augmentation against the plain front-end, and each step against its definition."""

import numpy as np
import pytest
import tolerances
import torch

from birdnet_fs.batches.augment import animal_spot
from birdnet_fs.batches.augment.animal_spot import Parameters
from birdnet_fs.batches.augment.item_random import ItemKey, ItemRandom
from birdnet_fs.frontend import preset
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.schema import AnimalSpot

SPEC = preset("animal_spot")
NOTHING = Parameters(0, 1.0, 1.0)


def item_random(place: int = 0) -> ItemRandom:
    return ItemRandom(0, ItemKey(0, place, 0, 0))


def call(n: int = SPEC.n_samples, hz: float = 3000.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    t = np.arange(n) / SPEC.sample_rate_hz
    return (0.3 * np.sin(2 * np.pi * hz * t) + rng.normal(0, 0.01, n)).astype(np.float32)


@pytest.mark.parametrize("name", ["animal_spot", "birdclef2025", "panns", "fewshot"])
def test_no_change_equals_the_front_end(name: str) -> None:
    spec = preset(name)
    waveform = call(spec.n_samples)
    features = animal_spot.features(waveform, NOTHING, spec, AnimalSpot(), item_random())
    assert features.shape == spec.shape
    # tolerance of the front-end: float32 sums show in bands 80 dB down
    assert np.abs(features - log_mel(waveform, spec)[0]).max() < tolerances.FRONTEND_FLOAT32[name]


def test_amplitude_shifts_decibels() -> None:
    louder = animal_spot.features(call(), Parameters(2, 1.0, 1.0), SPEC, AnimalSpot(), item_random())
    as_is = log_mel(call(), SPEC)[0]
    inside = (as_is > 0.1) & (as_is < 0.9)
    np.testing.assert_allclose((louder - as_is)[inside], 2 / 100, atol=tolerances.FRONTEND_FLOAT32["animal_spot"])


@pytest.mark.parametrize("factor", [0.5, 0.83, 1.31, 1.5])
def test_pitch_and_time_equal_torchs_nearest_neighbor(factor: float) -> None:
    power = np.random.default_rng(0).exponential(size=(40, 512)).astype(np.float32)
    size = round(512 * factor)
    scaled = torch.nn.functional.interpolate(torch.from_numpy(power)[None], size=size, mode="nearest")[0].numpy()
    wanted = np.full_like(power, np.median(power))
    wanted[:, : min(size, 512)] = scaled[:, :512]
    np.testing.assert_array_equal(animal_spot.scale_frequencies(power, factor), wanted)
    frames = round(40 * factor)
    by_torch = torch.nn.functional.interpolate(torch.from_numpy(power.T.copy())[None], size=frames, mode="nearest")
    np.testing.assert_array_equal(animal_spot.resize_nearest(power, frames, 0), by_torch[0].numpy().T)


def test_tone_moves_to_the_band_of_its_new_pitch() -> None:
    bands = {}
    for pitch in (0.7, 1.0, 1.3):
        features = animal_spot.features(call(), Parameters(0, pitch, 1.0), SPEC, AnimalSpot(), item_random())
        bands[pitch] = int(features.sum(axis=0).argmax())
    hz_per_band = (SPEC.fmax_hz - SPEC.fmin_hz) / SPEC.n_mels
    for pitch in (0.7, 1.3):
        assert (bands[pitch] - bands[1.0]) * hz_per_band == pytest.approx(3000 * (pitch - 1), abs=60)  # two bins


def test_noise_has_its_snr_over_all_bands() -> None:
    rng = np.random.default_rng(0)
    x, noise = rng.exponential(size=(2, 30, 20)).astype(np.float32)
    for snr_db in (-3, 11):
        added = animal_spot.add_noise(x, noise, snr_db) - x
        assert 10 * np.log10(x.sum() / added.sum()) == pytest.approx(snr_db, abs=1e-3)  # float32 sums
    np.testing.assert_array_equal(animal_spot.add_noise(x, np.zeros_like(noise), 0), x)


def test_background_is_added_and_named() -> None:
    item = item_random()
    background = [call(5 * SPEC.n_samples, hz=7000.0)]
    settings = AnimalSpot(1, snr_db=(0, 0), pitch=(1.0, 1.0))
    features = animal_spot.features(call(), NOTHING, SPEC, settings, item, background)
    alone = animal_spot.features(call(), NOTHING, SPEC, settings, item_random())
    band = round((7000 - SPEC.fmin_hz) / (SPEC.fmax_hz - SPEC.fmin_hz) * SPEC.n_mels)
    assert (features - alone)[:, band].mean() > 0.2
    assert item.changes[0].startswith("background 0 at 0 dB SNR")


def test_parameters_stay_within_their_bounds() -> None:
    assert animal_spot.draw_parameters(AnimalSpot(0), item_random()) is None
    found = [animal_spot.draw_parameters(AnimalSpot(1), item_random(place)) for place in range(500)]
    assert {drawn.amplitude_db for drawn in found} == set(range(-6, 3))
    for name, low, high in (("pitch", 0.5, 1.5), ("time", 0.5, 2.0)):
        values = [getattr(drawn, name) for drawn in found]
        assert low <= min(values) < 1.02 * low and 0.98 * high < max(values) <= high
        assert np.median(values) == pytest.approx(np.sqrt(low * high), rel=0.1)  # uniform in octaves
