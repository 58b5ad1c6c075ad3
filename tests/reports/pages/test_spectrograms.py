"""Pictures of spectrograms: orientation and range of the colors."""

import base64
import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from birdnet_fs.reports.pages.spectrograms import N_BANDS, Mark, picture, sound, spectrogram_png


def pixels(png: str) -> np.ndarray:
    """Brightness of a picture in base64."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(png))).convert("L"), int)


def test_time_runs_to_the_right_and_frequency_upwards():
    features = np.zeros((3, 2))
    features[2, 1] = 1.0  # last frame, highest band
    features[0, 0] = 9.0  # above the range
    image = pixels(spectrogram_png(features, 0.0, 1.0))
    assert image.shape == (2, 3)
    assert image[0, 2] == image[1, 0] == image.max() and image[0, 0] == image.min()


def tone(hz: float, rate: int, seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_frequencies_stand_where_their_tones_are():
    for rate, khz in ((32_000, (1, 2, 4, 8)), (256_000, (8, 30, 60))):
        places = {text.removesuffix(" kHz"): place for place, text in picture(tone(1, rate, 0.5), rate)["frequencies"]}
        for each in khz:
            image = pixels(picture(tone(1000 * each, rate, 0.5), rate)["png"])
            row = image.mean(axis=1).argmax()
            assert abs(places[f"{each:g}"] - 100 * (1 - (row + 0.5) / N_BANDS)) <= 100 / N_BANDS, each


def test_times_are_those_of_the_recording_at_round_seconds():
    shown = picture(tone(3000, 32_000, 5.0), 32_000, start_s=61.5)
    assert shown["times"] == [(pytest.approx(10 + 20 * k), f"1:0{2 + k}") for k in range(5)]
    short = picture(tone(3000, 32_000, 0.4), 32_000)["times"]
    assert [text for _, text in short] == ["0.0 s", "0.1 s", "0.2 s", "0.3 s", "0.4 s"]
    (mark,) = picture(tone(3000, 32_000, 5.0), 32_000, marks=[Mark(1.0, 9.0, name="x")])["marks"]
    assert (mark["left"], mark["right"], mark["name"]) == (pytest.approx(20), 100, "x")


def test_ultrasound_is_slowed_to_audible_frequencies():
    slowed = sound(tone(40_000, 320_000, 0.2), 320_000)
    played, rate = soundfile.read(io.BytesIO(base64.b64decode(slowed["data"])))
    assert slowed["slowed"] == 10 and rate == 32_000 and len(played) / rate == pytest.approx(2, abs=0.1)
    assert np.abs(np.fft.rfft(played)).argmax() * rate / len(played) == pytest.approx(4000, abs=5)


def test_a_rate_that_mp3_does_not_have_is_flac():
    odd = sound(tone(1000, 20_000, 0.5), 20_000)
    played, rate = soundfile.read(io.BytesIO(base64.b64decode(odd["data"])))
    assert (odd["kind"], rate, len(played)) == ("flac", 20_000, 10_000)
