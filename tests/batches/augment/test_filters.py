"""Filters against scipy's Butterworth and tones, colored noise against scipy's Welch periodogram."""

import numpy as np
import pytest
import scipy.signal
import tolerances

from birdnet_fs.batches.augment import filters

RATE = 32_000


def tone(hz: float, n: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(n) / RATE).astype(np.float32)


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("kind", ["low", "high"])
def test_filters_have_the_magnitude_of_scipys_butterworth(kind: str, order: int) -> None:
    make = filters.low_pass if kind == "low" else filters.high_pass
    gain_db = make(3000.0, 6.0206 * order, RATE, RATE)
    b, a = scipy.signal.butter(order, 2 * np.pi * 3000, kind, analog=True)
    hz = np.array([200, 1000, 3000, 5000, 12_000])
    _, response = scipy.signal.freqs(b, a, 2 * np.pi * hz)
    np.testing.assert_allclose(gain_db[hz], 20 * np.log10(np.abs(response)), atol=tolerances.FILTER_DB)


def test_equalizer_has_the_given_gains() -> None:
    gains = np.array([-6.0, -3.0, 0.0, 3.0, 6.0, -6.0])
    points = np.geomspace(filters.EQ_LOWEST_HZ, RATE / 2, 6)
    curve = filters.equalizer(gains, RATE, RATE)
    hz = np.arange(RATE // 2 + 1)
    by_numpy = np.interp(np.log(np.maximum(hz, 1)), np.log(points), gains)
    np.testing.assert_allclose(curve, by_numpy, atol=tolerances.FILTER_DB)
    for at in (50, 632, 3000, 9000):
        changed = filters.change_spectrum(tone(at), curve)
        change = 20 * np.log10(np.std(changed) / np.std(tone(at)))
        assert change == pytest.approx(by_numpy[at], abs=tolerances.FILTER_DB)


@pytest.mark.parametrize("n", [1000, 999])
def test_zero_gain_returns_the_segment(n: int) -> None:
    waveform = np.random.default_rng(0).normal(size=n).astype(np.float32)
    same = filters.change_spectrum(waveform, np.zeros(n // 2 + 1, np.float32))
    assert same.dtype == np.float32
    np.testing.assert_allclose(same, waveform, atol=tolerances.FFT_THERE_AND_BACK)


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 1.0, 2.0])
def test_colored_noise_has_the_slope_of_its_exponent(exponent: float) -> None:
    noise = filters.colored_noise(60 * RATE, exponent, np.random.default_rng(0), RATE)
    hz, power = scipy.signal.welch(noise, RATE, nperseg=4096)
    used = (hz > 200) & (hz < 15_000)
    slope = np.polyfit(np.log(hz[used]), np.log(power[used]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=tolerances.NOISE_SLOPE)
    assert abs(noise.mean()) < 1e-3 * noise.std()
    low = power[(hz > 10) & (hz < 90)].mean() / power[(hz > 95) & (hz < 110)].mean()
    assert low == pytest.approx(1, abs=tolerances.NOISE_EVEN)  # even below 100 Hz
