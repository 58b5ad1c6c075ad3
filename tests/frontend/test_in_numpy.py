"""Fast log-mel features against librosa on real and synthetic segments, and the waveforms they accept."""

import threading

import numpy as np
import pytest
import reference_frontend as reference
import tolerances
from reference_frontend import only_decibels
from signals import sounds

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend import PRESETS, preset
from birdnet_fs.frontend.in_numpy import log_mel, log_mel_reference, network_input

ALL = pytest.mark.parametrize("spec", PRESETS.values(), ids=PRESETS)


@pytest.mark.shared
@ALL
@pytest.mark.parametrize("n", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_real_segments_agree_with_librosa_in_decibels(spec, n, shared_data):
    bare, unit = only_decibels(spec)
    # 1 s of each, since librosa is slow; benchmarks/frontend.py --parity compares whole segments
    segments = reference.real_segments(shared_data, n, sample_rate_hz=spec.sample_rate_hz, duration_s=1.0)
    for segment in segments:
        difference = np.abs(log_mel(segment, bare)[0] - reference.decibels(segment, bare)).max() * unit
        assert difference <= tolerances.FRONTEND_DB


@pytest.mark.parametrize("depth_db", [60, 75, 100])
def test_loud_tone_leaves_quiet_bands_accurate(depth_db):
    """In float32 alone the bands 75 dB below are off by 9e-4 dB here, and by 3e-3 dB on real audio."""
    spec, rng = preset("cnn_32k"), np.random.default_rng(1)
    bare, _ = only_decibels(spec)
    t = np.arange(spec.n_samples) / spec.sample_rate_hz
    noise = rng.standard_normal(spec.n_samples) * 10 ** (-(depth_db - 25) / 20)  # noise is 25 dB lower in a bin
    x = (np.sin(2 * np.pi * 1000 * t) + noise).astype(np.float32)
    assert np.abs(log_mel(x, bare)[0] - reference.decibels(x, bare)).max() <= tolerances.FRONTEND_BLUR_DB


def test_errors_of_loud_tones_near_the_nyquist_frequency_are_bounded():
    """Rounding errors of a tone repeat with it and add up in a few bins, twenty times their root mean square."""
    spec, rng, errors = preset("cnn_32k"), np.random.default_rng(0), []
    bare, _ = only_decibels(spec)
    t = np.arange(8_000) / spec.sample_rate_hz
    for clipped in (False, True) * 40:
        tone = np.sin(np.pi * spec.sample_rate_hz * rng.uniform(0.93, 0.999) * t)
        noise = rng.standard_normal(len(t)) * 0.7 * 10 ** (-rng.uniform(15, 35) / 20)
        x = (0.3 * ((np.clip(3 * tone, -1, 1) if clipped else tone) + noise)).astype(np.float32)
        errors.append(log_mel(x, bare)[0] - log_mel_reference(x, bare)[0])
    assert np.sqrt(np.square(errors).mean()) <= tolerances.FRONTEND_RMS_DB
    assert np.abs(errors).max() <= tolerances.FRONTEND_TONES_DB


@ALL
def test_threads_give_the_same_features(spec):
    x = sounds(spec, 4)
    expected, got = log_mel(x, spec), np.zeros((4, *spec.shape), np.float32)

    def work(i):
        got[i] = log_mel(x[i], spec)[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert np.array_equal(got, expected)


@pytest.mark.parametrize(
    ("waveform", "words"),
    [
        (np.full(160_000, np.nan, np.float32), "sample 0 of segment 0 is nan"),
        (np.array([[0.0] * 1000, [0.0] * 9 + [np.inf] + [0.0] * 990]), "sample 9 of segment 1 is inf"),
        (np.zeros((2, 3, 160_000), np.float32), r"\(2, 3, 160000\)"),
        (np.zeros(0, np.float32), r"shape: \(0,\)"),
        (np.zeros(160_000, np.int32), "int32"),
        (["bird"], "Received: <U4"),
    ],
)
def test_bad_waveforms_are_refused_in_one_sentence(waveform, words):
    with pytest.raises(UserError, match=words) as error:
        log_mel(waveform, preset("panns"))
    assert "\n" not in str(error.value)


def test_float64_int16_and_read_only_waveforms_are_accepted():
    spec = preset("birdclef2025")
    x = sounds(spec, 1)
    expected = log_mel(x, spec)
    assert np.array_equal(log_mel(x.astype(np.float64), spec), expected)
    integers = np.round(x * 32_767).astype(np.int16)
    assert np.array_equal(log_mel(integers, spec), log_mel(integers.astype(np.float32) / 32_768, spec))
    read_only = x.astype(np.float64)
    read_only.flags.writeable = False
    assert np.array_equal(log_mel(read_only[:, ::1], spec), expected)


def test_network_input_repeats_the_channel():
    features = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    assert np.array_equal(network_input(features, preset("panns")), features[..., None])
    three = network_input(features, preset("echo_engine"))
    assert three.shape == (2, 5, 4, 3) and (three == features[..., None]).all()
