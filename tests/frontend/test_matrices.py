"""Windows and band matrices against librosa, and resize weights against linear interpolation."""

import numpy as np
import pytest
import tolerances
import uncompiled_librosa as librosa

from birdnet_fs.frontend.matrices import hann, linear_matrix, mel_matrix, resize_weights


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


def test_resize_weights_sum_to_one_and_bilinear_interpolates_between_centers():
    assert resize_weights(7, 7, "bilinear") is None
    for method in ("bilinear", "lanczos5"):
        np.testing.assert_allclose(resize_weights(12, 30, method).sum(axis=1), 1, rtol=1e-12)
    x = np.random.default_rng(0).normal(size=12)
    expected = np.interp((np.arange(30) + 0.5) * 12 / 30 - 0.5, np.arange(12), x)
    np.testing.assert_allclose(resize_weights(12, 30, "bilinear") @ x, expected, atol=1e-12)
