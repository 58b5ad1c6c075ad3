"""Windows and band matrices against librosa, and the definitions made of them."""

import dataclasses

import librosa
import numpy as np
import pytest
import tolerances

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend import preset
from birdnet_fs.frontend.definition import STEPS, apply_steps, define, hann, linear_matrix, mel_matrix


@pytest.mark.parametrize("htk", [False, True])
@pytest.mark.parametrize(
    ("rate", "n_fft", "n", "low", "high"),
    [(32_000, 1024, 128, 50, 14_000), (48_000, 2048, 260, 20, 13_000), (22_050, 512, 40, 0, 11_025)],
)
def test_mel_matrix_equals_librosas(rate, n_fft, n, low, high, htk):
    norm = None if htk else "slaney"
    expected = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=n, fmin=low, fmax=high, htk=htk, norm=norm, dtype=np.float64
    )
    ours = mel_matrix(rate, n_fft, n, low, high, htk=htk)
    assert np.abs(ours - expected).max() <= tolerances.FRONTEND_MATRIX * expected.max()


def test_hann_and_linear_matrix_equal_their_definitions():
    assert (
        np.abs(hann(400, 512) - librosa.util.pad_center(librosa.filters.get_window("hann", 400), size=512)).max()
        < 1e-15
    )
    matrix = linear_matrix(44_100, 1024, 256, 500, 10_000)
    assert matrix.shape == (256, 513) and (matrix.sum(axis=1) == 1).all()
    assert np.flatnonzero(matrix.any(axis=0)).tolist() == list(range(11, 233))


def test_definition_is_cached_and_has_the_shape_of_its_front_end():
    spec = preset("echo_engine")
    definition = define(spec, spec.n_samples)
    assert define(dataclasses.replace(spec), spec.n_samples) is definition
    assert definition.shape == spec.shape and definition.steps == ("compress", "keep", "resize", "normalise")
    assert (definition.n_frames, definition.kept_frames) == (1201, (0, 1200, 0, 0))
    assert definition.resize_frames.shape == (260, 1200) and definition.resize_bands is None
    np.testing.assert_allclose(definition.resize_frames.sum(axis=1), 1)


def test_short_waveforms_get_zero_frames_on_the_chosen_side():
    for keep_from, expected in (("start", (0, 11, 0, 9)), ("center", (0, 11, 4, 5))):
        spec = dataclasses.replace(preset("cnn_32k"), keep_frames=20, keep_from=keep_from)
        assert define(spec, 10 * spec.hop_length).kept_frames == expected


def test_bands_without_any_fft_bin_are_refused():
    spec = dataclasses.replace(preset("cnn_32k"), fmin_hz=1001.0, fmax_hz=1010.0)
    with pytest.raises(UserError, match=r"at least one FFT bin; bins are 31.25 Hz apart. Received: \(1001.0, 1010.0\)"):
        define(spec, spec.n_samples)


def test_apply_steps_calls_the_given_steps_in_order():
    spec = preset("cnn_32k")
    definition = define(spec, spec.n_samples)
    called = []
    steps = {name: lambda x, definition, ops, name=name: called.append(name) or x + 1 for name in STEPS}
    assert apply_steps(0, definition, np, steps) == len(definition.steps)
    assert tuple(called) == definition.steps == ("compress", "normalise")
