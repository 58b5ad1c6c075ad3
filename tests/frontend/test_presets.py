"""One contract over every preset: shape, librosa's numbers, hard cases, independence, refusals."""

import dataclasses
import math
import os
import subprocess
import sys
import threading

import keras
import librosa
import numpy as np
import pytest
import reference_frontend as reference
import tolerances
from signals import hard_cases, sounds

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend import PRESETS, in_keras, in_numpy, preset
from birdnet_fs.frontend.definition import define, hann, linear_matrix, mel_matrix
from birdnet_fs.frontend.in_numpy import log_mel, log_mel_reference
from birdnet_fs.frontend.kernels import kernels
from birdnet_fs.schema import FrontEnd

ALL = pytest.mark.parametrize("spec", PRESETS.values(), ids=PRESETS)


def only_decibels(spec):
    """The preset up to its logarithm or PCEN, and dB per unit of what it then gives (PCEN: a dB is about 0.1)."""
    bare = dataclasses.replace(spec, normalize="none", keep_frames=0, resize=(0, 0))
    return bare, {"log": 10 / math.log(10), "pcen": 10.0}.get(spec.compression, 1.0)


@ALL
def test_shape_dtype_and_librosa(spec):
    x = sounds(spec, 2)
    features = log_mel(x, spec)
    assert features.shape == (2, *spec.shape) and features.dtype == np.float32
    for row, segment in zip(features, x, strict=True):
        assert np.abs(row - reference.features(segment, spec)).max() <= tolerances.FRONTEND_FLOAT64
    assert np.abs(features - log_mel_reference(x, spec)).max() <= tolerances.FRONTEND_FLOAT64


@pytest.mark.shared
@ALL
def test_200_real_segments_in_decibels(spec, shared_data):
    bare, unit = only_decibels(spec)
    # 1 s of each: librosa takes most of the time; benchmarks/frontend.py --parity takes whole segments
    segments = reference.real_segments(shared_data, 200, sample_rate_hz=spec.sample_rate_hz, duration_s=1.0)
    for segment in segments:
        difference = np.abs(log_mel(segment, bare)[0] - reference.decibels(segment, bare)).max() * unit
        assert difference <= tolerances.FRONTEND_DB


@pytest.mark.parametrize("depth_db", [60, 75, 100])
def test_a_loud_tone_does_not_blur_quiet_bands(depth_db):
    """In float32 alone the bands 75 dB below are off by 9e-4 dB here, and by 3e-3 dB on real audio."""
    spec, rng = preset("cnn_32k"), np.random.default_rng(1)
    bare, _ = only_decibels(spec)
    t = np.arange(spec.n_samples) / spec.sample_rate_hz
    noise = rng.standard_normal(spec.n_samples) * 10 ** (-(depth_db - 25) / 20)  # a bin hears 25 dB less of noise
    x = (np.sin(2 * np.pi * 1000 * t) + noise).astype(np.float32)
    assert np.abs(log_mel(x, bare)[0] - reference.decibels(x, bare)).max() <= tolerances.FRONTEND_BLUR_DB


@pytest.mark.parametrize("n_fft", [16, 18, 400, 500, 1026, 4096])  # 2 * 9, 4 * 125, 2 * 27 * 19: every kind of stage
def test_any_even_n_fft(n_fft):
    for top_db in (80.0, 0.0):  # float32 and float64
        spec = FrontEnd(n_fft=n_fft, win_length=n_fft, hop_length=n_fft // 2, n_mels=8, top_db=top_db)
        x = sounds(spec, 1, 20_000)
        assert np.abs(log_mel(x, spec) - log_mel_reference(x, spec)).max() <= tolerances.FRONTEND_DB


@pytest.mark.parametrize("n_frames", [1, 7, 8, 9, 64, 65, 73])
def test_any_number_of_frames(n_frames):
    """Frames are taken by 8 and by 64; those at the ends hold padding."""
    spec = preset("panns")
    x = sounds(spec, 1, max(spec.min_samples, (n_frames - 1) * spec.hop_length))
    assert np.abs(log_mel(x, spec) - log_mel_reference(x, spec)).max() <= tolerances.FRONTEND_FLOAT64


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_frames_are_the_same_in_any_company(dtype):
    """What is computed again in float64 is a few frames, at the ends or inside, next to each other or apart."""
    spec, rng = preset("cnn_32k"), np.random.default_rng(3)
    x = sounds(spec, 1)[0]
    definition = define(spec, spec.n_samples)
    whole = np.zeros((definition.n_frames, spec.n_mels), np.float32)
    in_numpy._transform(x, np.arange(definition.n_frames), definition, dtype, whole)
    for n_apart in range(1, 40):
        steps = rng.integers(1, 4, n_apart)
        which = np.cumsum(steps) - 1 if n_apart % 2 else definition.n_frames - np.cumsum(steps)[::-1]
        part = np.zeros_like(whole)
        in_numpy._transform(x, which, definition, dtype, part)
        assert np.array_equal(part[which], whole[which])
        assert not np.delete(part, which, axis=0).any()


def test_log_over_all_floats():
    x = np.exp(np.random.default_rng(0).uniform(np.log(1.2e-38), np.log(3.4e38), 100_003)).astype(np.float32)
    x[:3] = 0.0, 1.0, 2.0
    for floor in (1.2e-38, 1e-10):
        expected = 10 * np.log10(np.maximum(x.astype(np.float64), floor))
        got = x.copy()
        kernels().log(got, floor, 10 / np.log(10))
        assert (np.abs(got - expected) <= tolerances.FRONTEND_LOG * np.maximum(1, np.abs(expected))).all()


@pytest.mark.shared
@ALL
@pytest.mark.parametrize("transform", ["rfft", "dft"])
def test_keras_on_real_segments_in_decibels(spec, transform, shared_data):
    bare, unit = only_decibels(spec)
    x = reference.real_segments(shared_data, 4, sample_rate_hz=spec.sample_rate_hz, duration_s=spec.segment_s)
    in_graph = keras.ops.convert_to_numpy(in_keras.log_mel(x, bare, transform))
    in_one_part = transform == "dft" and spec.top_db and spec.compression != "pcen"
    limit = tolerances.FRONTEND_DFT_DB if in_one_part else tolerances.FRONTEND_DB
    assert np.abs(in_graph - log_mel(x, bare)).max() * unit <= limit


@ALL
@pytest.mark.parametrize("transform", ["rfft", "dft"])
def test_keras_agrees(spec, transform):
    x = sounds(spec, 3)
    features = keras.ops.convert_to_numpy(in_keras.log_mel(x, spec, transform))
    assert features.dtype == np.float32
    limit = tolerances.FRONTEND_FLOAT64 if transform == "rfft" else tolerances.FRONTEND_FLOAT32[spec.preset]
    assert np.abs(features - log_mel(x, spec)).max() <= limit


@ALL
def test_hard_cases(spec):
    cases = hard_cases(spec)
    for name, x in cases.items():
        features = log_mel(x, spec)[0]
        assert np.isfinite(features).all(), name
        if name in ("clipping", "impulse"):
            difference = np.abs(features - reference.features(x, spec)).max()
            assert difference <= tolerances.FRONTEND_HARD_CASES, name
    silence = log_mel(cases["silence"], spec)
    assert silence.min() == silence.max()
    for transform in ("rfft", "dft"):
        in_graph = keras.ops.convert_to_numpy(in_keras.log_mel(np.stack(list(cases.values())), spec, transform))
        assert np.isfinite(in_graph).all()


@ALL
def test_a_segment_is_the_same_to_the_bit_in_any_batch(spec):
    x = sounds(spec, 4)
    alone = log_mel(x[1], spec)[0]
    other = np.stack([x[0] * 0.01, x[1], x[3] * 3])
    assert np.array_equal(log_mel(x, spec)[1], alone)
    assert np.array_equal(log_mel(other, spec)[1], alone)
    for transform in ("rfft", "dft"):
        first, second = (
            keras.ops.convert_to_numpy(in_keras.log_mel(batch[:2], spec, transform))[1] for batch in (x, other)
        )
        assert np.array_equal(first, second)


@ALL
def test_threads_give_the_same(spec):
    x = sounds(spec, 4)
    expected, got = log_mel(x, spec), np.zeros((4, *spec.shape), np.float32)

    def work(i):
        got[i] = log_mel(x[i], spec)[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert np.array_equal(got, expected)


@ALL
def test_other_lengths(spec):
    for n_samples in (spec.n_samples + 777, max(spec.min_samples, spec.n_samples // 4)):
        x = sounds(spec, 1, n_samples)
        expected = reference.features(x[0], spec)
        assert np.abs(log_mel(x, spec)[0] - expected).max() <= tolerances.FRONTEND_FLOAT64
        in_graph = keras.ops.convert_to_numpy(in_keras.log_mel(x, spec))[0]
        assert np.abs(in_graph - expected).max() <= tolerances.FRONTEND_FLOAT64


@ALL
def test_too_short_is_refused(spec):
    with pytest.raises(UserError, match=f"{spec.min_samples} samples or more"):
        define(spec, spec.min_samples - 1)
    assert np.isfinite(log_mel(np.zeros(spec.min_samples, np.float32), spec)).all()


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


def test_keras_refuses_wrong_shapes():
    with pytest.raises(UserError, match="Received shape"):
        in_keras.log_mel(np.zeros((1, 2, 3), np.float32), preset("panns"))
    with pytest.raises(UserError, match="513 samples or more"):
        in_keras.log_mel(np.zeros((1, 512), np.float32), preset("panns"))


def test_types_of_waveform():
    spec = preset("birdclef2025")
    x = sounds(spec, 1)
    expected = log_mel(x, spec)
    assert np.array_equal(log_mel(x.astype(np.float64), spec), expected)
    integers = np.round(x * 32_767).astype(np.int16)
    assert np.array_equal(log_mel(integers, spec), log_mel(integers.astype(np.float32) / 32_768, spec))
    read_only = x.astype(np.float64)
    read_only.flags.writeable = False
    assert np.array_equal(log_mel(read_only[:, ::1], spec), expected)


def test_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'birdclef2025'"):
        preset("birdclef")


@pytest.mark.parametrize("htk", [False, True])
@pytest.mark.parametrize(
    ("rate", "n_fft", "n", "low", "high"),
    [(32_000, 1024, 128, 50, 14_000), (48_000, 2048, 260, 20, 13_000), (22_050, 512, 40, 0, 11_025)],
)
def test_mel_matrix_is_librosas(rate, n_fft, n, low, high, htk):
    norm = None if htk else "slaney"
    expected = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=n, fmin=low, fmax=high, htk=htk, norm=norm, dtype=np.float64
    )
    ours = mel_matrix(rate, n_fft, n, low, high, htk=htk)
    assert np.abs(ours - expected).max() <= tolerances.FRONTEND_MATRIX * expected.max()


def test_window_and_linear_bands():
    assert (
        np.abs(hann(400, 512) - librosa.util.pad_center(librosa.filters.get_window("hann", 400), size=512)).max()
        < 1e-15
    )
    matrix = linear_matrix(44_100, 1024, 256, 500, 10_000)
    assert matrix.shape == (256, 513) and (matrix.sum(axis=1) == 1).all()
    assert np.flatnonzero(matrix.any(axis=0)).tolist() == list(range(11, 233))


def test_layer_adds_no_weights_and_stays_float32():
    spec = preset("birdnet_3s_48k")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = in_keras.FrontEndLayer(spec, "rfft", name="frontend")
    finally:
        keras.config.set_dtype_policy("float32")
    x = sounds(spec, 2)
    features = layer(x)
    assert not layer.weights and keras.backend.standardize_dtype(features.dtype) == "float32"
    assert np.abs(keras.ops.convert_to_numpy(features) - log_mel(x, spec)).max() <= tolerances.FRONTEND_FLOAT64
    import torch

    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = layer(x)
    assert np.array_equal(keras.ops.convert_to_numpy(again), keras.ops.convert_to_numpy(features))
    twin = in_keras.FrontEndLayer.from_config(layer.get_config())
    assert twin.spec == spec and twin.transform == "rfft"


def test_settings_survive_json():
    for spec in PRESETS.values():
        assert FrontEnd.from_artifact(spec.to_artifact()) == spec
    with pytest.raises(UserError, match="n_mels"):
        FrontEnd.from_artifact({"n_mel": 3})


def test_works_where_no_numba_cache_can_be_written(tmp_path):
    """A read-only install and no home: numba's own cache raises there."""
    code = (
        "import numba.core.caching as caching\n"
        "def refuse(locator): raise OSError('read-only')\n"
        "caching._CacheLocator.ensure_cache_path = refuse\n"
        "import numpy as np; from birdnet_fs.frontend import preset; from birdnet_fs.frontend.in_numpy import log_mel;"
        "print(log_mel(np.zeros(160000, np.float32), preset('panns')).shape)"
    )
    environment = {**os.environ, "NUMBA_OPT": "0"}  # everything is compiled anew: quickly rather than well
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "(1, 501, 64)", done.stderr[-2000:]


def test_importing_the_room_is_cheap():
    code = (
        "import sys; import birdnet_fs.frontend, birdnet_fs.frontend.in_numpy;"
        "print([m for m in ('torch', 'keras', 'tensorflow', 'librosa', 'scipy', 'numba') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
