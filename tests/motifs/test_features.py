"""Features for mining: rates, references of other libraries, and what is refused."""

import sys

import librosa
import numpy as np
import pytest
import tolerances

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.features import SAMPLE_RATE_HZ, FeatureSettings, frame_levels, open_features

RNG = np.random.default_rng(0)
WAVEFORM = (np.sin(np.cumsum(RNG.uniform(0.1, 1.2, 40)).repeat(1600) * np.arange(64_000)) * 0.3).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "asked", "hop"),
    [("cens", 10, 3200), ("cens", 7, 4544), ("chroma", 50, 640), ("chroma", 7, 4571), ("logmel", 50, 640)],
)
def test_frames_are_a_hop_apart(name: str, asked: float, hop: int) -> None:
    features = open_features(FeatureSettings(name, asked))
    assert features.hop == hop and features.frames_per_s == SAMPLE_RATE_HZ / hop
    x = features.compute(WAVEFORM)
    assert x.shape == (1 + len(WAVEFORM) // hop, 40 if name == "logmel" else 12) and np.isfinite(x).all()


def test_cens_is_the_document_s() -> None:
    """32 kHz, hop (sr // (10 * 64)) * 64."""
    expected = librosa.feature.chroma_cens(y=WAVEFORM, sr=32_000, hop_length=(32_000 // (10 * 64)) * 64)
    np.testing.assert_array_equal(open_features(FeatureSettings()).compute(WAVEFORM), expected.T.astype(np.float32))


def test_log_mel_is_librosa_s_and_standardized() -> None:
    found = open_features(FeatureSettings("logmel", 50)).compute(WAVEFORM)
    power = librosa.feature.melspectrogram(
        y=WAVEFORM, sr=32_000, n_fft=1024, hop_length=640, n_mels=40, fmin=500, fmax=10_000
    )
    decibels = librosa.power_to_db(power, ref=np.max, top_db=50)
    expected = (decibels - decibels.mean()) / decibels.std()
    np.testing.assert_allclose(found, expected.T, rtol=0, atol=tolerances.FRONTEND_DB)


def test_silence_has_finite_features() -> None:
    for name in ("cens", "chroma", "logmel"):
        assert np.isfinite(open_features(FeatureSettings(name, 10)).compute(np.zeros(64_000, np.float32))).all()


def test_levels_are_root_mean_squares_of_hops() -> None:
    x = RNG.standard_normal(1050).astype(np.float32)
    expected = [np.sqrt(np.square(x[i * 100 : i * 100 + 100].astype(float)).sum() / 100) for i in range(13)]
    np.testing.assert_allclose(frame_levels(x, 100, 13), expected, rtol=tolerances.FLOAT64_SUMS)
    np.testing.assert_allclose(frame_levels(x, 100, 4), expected[:4], rtol=tolerances.FLOAT64_SUMS)


def test_wrong_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings, message in (
        (FeatureSettings("sens"), "--feature must be one of cens, .* Did you mean 'cens'"),
        (FeatureSettings("embedding"), "needs --encoder FILE"),
        (FeatureSettings("chroma", 10, "x.onnx"), "no other feature has one"),
        (FeatureSettings("cens", 501), r"--cens-sr must be in 0\.1\.\.500 frames a second. Received: 501"),
        (FeatureSettings("logmel", 0), "--cens-sr must be in"),
    ):
        with pytest.raises(UserError, match=message):
            open_features(settings)
    monkeypatch.setitem(sys.modules, "librosa.feature", None)
    with pytest.raises(UserError, match=r"--feature cens needs librosa; .*birdnet_fs\[motifs\]"):
        open_features(FeatureSettings("cens", 11))
    assert open_features(FeatureSettings("logmel", 11)).hop == 2909
