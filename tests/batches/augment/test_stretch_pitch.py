"""Stretch and pitch shift against tones and sweeps made at the speed and pitch they should have, and librosa."""

import numpy as np
import pytest
import tolerances
import uncompiled_librosa as librosa

from birdnet_fs.batches.augment.stretch_pitch import stretch, stretch_and_shift

RATE = 32_000


def strongest_hz(waveform: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.argmax(power)) * RATE / len(waveform)


def song(n: int, speed: float) -> np.ndarray:
    """Syllables that sweep between 1.5 and 4.5 kHz four times a second, at a speed but not at another pitch."""
    t = np.arange(n) / RATE * speed
    envelope = np.clip(5 * np.sin(2 * np.pi * 2 * t), 0, 1)
    phase = 2 * np.pi * np.cumsum(3000 + 1500 * np.sin(2 * np.pi * 4 * t)) / RATE
    return (0.3 * envelope * np.sin(phase)).astype(np.float32)


def log_power(waveform: np.ndarray) -> np.ndarray:
    return np.log10(np.abs(librosa.stft(waveform, n_fft=1024, hop_length=256)) ** 2 + 1e-3)


@pytest.mark.parametrize("n_out", [20_000, 32_000, 51_234])
def test_stretched_tone_keeps_pitch_and_level(n_out: int) -> None:
    tone = np.sin(2 * np.pi * 2000 * np.arange(RATE) / RATE).astype(np.float32)
    stretched = stretch(tone, n_out, RATE)
    assert stretched.shape == (n_out,) and stretched.dtype == np.float32
    assert strongest_hz(stretched) == pytest.approx(2000, abs=2)  # bins lie 1 Hz apart
    inside = stretched[1000:-1000]
    assert np.std(inside) * np.sqrt(2) == pytest.approx(1, rel=tolerances.STRETCHED_LEVEL)


@pytest.mark.parametrize("semitones", [-5.0, -0.5, 3.0, 7.0])
def test_shifted_tone_has_the_new_pitch_and_same_length(semitones: float) -> None:
    tone = np.sin(2 * np.pi * 2000 * np.arange(RATE) / RATE).astype(np.float32)
    shifted = stretch_and_shift(tone, RATE, semitones, RATE)
    assert shifted.shape == tone.shape
    assert strongest_hz(shifted) == pytest.approx(2000 * 2 ** (semitones / 12), abs=2)
    assert np.std(shifted[1000:-1000]) * np.sqrt(2) == pytest.approx(1, rel=tolerances.STRETCHED_LEVEL)


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_stretched_song_is_closer_than_librosas(speed: float) -> None:
    """Nearer to the song made at that speed than librosa's phase vocoder, whose window is made for music."""
    n = 2 * RATE
    wanted = log_power(song(round(n / speed), speed))
    ours = np.abs(log_power(stretch(song(n, 1.0), round(n / speed), RATE)) - wanted).mean()
    theirs = np.abs(log_power(librosa.effects.time_stretch(song(n, 1.0), rate=speed)) - wanted).mean()
    assert ours < tolerances.STRETCHED_SONG
    assert ours < 0.5 * theirs


def test_no_stretch_and_no_shift_return_the_waveform() -> None:
    waveform = song(RATE, 1.0)
    np.testing.assert_array_equal(stretch_and_shift(waveform, RATE, 0.0, RATE), waveform)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 48_000])
def test_silence_and_short_segments_can_be_stretched(rate_hz: int) -> None:
    np.testing.assert_array_equal(stretch(np.zeros(5000, np.float32), 4000, rate_hz), 0)
    assert np.isfinite(stretch(np.ones(10, np.float32), 700, rate_hz)).all()
