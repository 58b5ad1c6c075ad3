"""Synthetic song and weather: frequencies, aliasing, species and reproducibility."""

import dataclasses

import numpy as np
import pytest
import tolerances

from birdnet_fs.data.synthetic.song import SPECIES, Individual, synthesize_song, synthesize_weather


def test_energy_of_a_song_is_between_its_frequencies():
    rng = np.random.default_rng(0)
    for species in SPECIES:
        song = synthesize_song(Individual.draw(species, rng), rng)
        power = np.abs(np.fft.rfft(song.waveform)) ** 2
        hz = np.fft.rfftfreq(len(song.waveform), 1 / 32_000)
        inside = power[(hz > song.low_hz - 250) & (hz < song.high_hz + 250)].sum()
        assert inside / power.sum() > tolerances.SONG_IN_BAND, species


def test_songs_do_not_alias():
    for seed, species in enumerate(SPECIES):
        individual = dataclasses.replace(Individual.draw(species, np.random.default_rng(seed)), pitch=1.15)
        fine = synthesize_song(individual, np.random.default_rng(seed), sample_rate_hz=128_000).waveform
        coarse = synthesize_song(individual, np.random.default_rng(seed)).waveform
        np.testing.assert_allclose(fine[::4], coarse, rtol=0, atol=tolerances.PHASE_STEP)
        power = np.abs(np.fft.rfft(fine.astype(np.float64))) ** 2
        above = power[np.fft.rfftfreq(len(fine), 1 / 128_000) > 16_000].sum()
        assert above < tolerances.ALIASED_POWER * power.sum(), species


def test_species_differ_and_overlap():
    assert len({species.latin for species in SPECIES}) == len(SPECIES) >= 8
    assert len({species.name for species in SPECIES}) == len(SPECIES)
    middle = [species for species in SPECIES[:8] if species.low_hz < 3450 and species.high_hz > 3400]
    assert len(middle) >= 5  # the band alone does not separate them


def test_same_generator_state_gives_the_same_song():
    songs = []
    for seed in (0, 0, 1):
        rng = np.random.default_rng(seed)
        songs.append(synthesize_song(Individual.draw(SPECIES[0], rng), rng).waveform)
    np.testing.assert_array_equal(songs[0], songs[1])
    assert not np.array_equal(songs[0][:1000], songs[2][:1000])


@pytest.mark.parametrize("seed", range(4))
def test_weather_has_unit_rms_and_no_gaps(seed):
    weather = synthesize_weather(32_000, np.random.default_rng(seed))
    assert weather.dtype == np.float32 and weather.shape == (32_000,)
    assert np.sqrt(np.mean(weather.astype(np.float64) ** 2)) == pytest.approx(1, abs=tolerances.WEATHER_RMS)
    assert np.count_nonzero(weather) > 31_000
