"""Features for mining: rates, references of other libraries, and what is refused."""

import sys
from pathlib import Path

import embedding_store
import foreign_encoders
import numpy as np
import pytest
import tolerances
import uncompiled_librosa as librosa
from installed import need
from preloaded import run_python

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.features import SAMPLE_RATE_HZ, FeatureSettings, frame_levels, open_features

RNG = np.random.default_rng(0)
WAVEFORM = (np.sin(np.cumsum(RNG.uniform(0.1, 1.2, 40)).repeat(1600) * np.arange(64_000)) * 0.3).astype(np.float32)


# in a process of its own: other tests use librosa without the functions that it compiles, and these need them
CHROMA = """
import librosa, numpy as np, sys
from birdnet_fs.motifs.features import FeatureSettings, open_features
rng = np.random.default_rng(0)
waveform = (np.sin(np.cumsum(rng.uniform(0.1, 1.2, 40)).repeat(1600) * np.arange(64_000)) * 0.3).astype(np.float32)
cases = (("cens", 10, (32_000 // (10 * 64)) * 64), ("cens", 7, 4544), ("chroma", 50, 640), ("chroma", 7, 4571))
for name, asked, hop in cases:
    features = open_features(FeatureSettings(name, asked))
    assert features.hop == hop and features.frames_per_s == 32_000 / hop
    reference = librosa.feature.chroma_cens if name == "cens" else librosa.feature.chroma_stft
    expected = reference(y=waveform, sr=32_000, hop_length=hop).T.astype(np.float32)
    np.testing.assert_array_equal(features.compute(waveform), expected)
    silent = features.compute(np.zeros(64_000, np.float32))
    assert silent.shape == expected.shape == (1 + 64_000 // hop, 12) and np.isfinite(silent).all()
"""


@pytest.mark.slow  # librosa compiles for 40 s when it is imported for the first time
def test_chroma_are_librosa_s_at_the_hops_of_the_document() -> None:
    done = run_python(["-c", CHROMA], backend="")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "asked", "hop"), [("logmel", 50, 640), ("shape", 7, 4571)])
def test_frames_are_a_hop_apart(name: str, asked: float, hop: int) -> None:
    features = open_features(FeatureSettings(name, asked))
    assert features.hop == hop and features.frames_per_s == SAMPLE_RATE_HZ / hop
    x = features.compute(WAVEFORM)
    assert x.shape == (1 + len(WAVEFORM) // hop, 80 if name == "shape" else 40) and np.isfinite(x).all()


def test_log_mel_is_librosa_s_and_standardized() -> None:
    found = open_features(FeatureSettings("logmel", 50)).compute(WAVEFORM)
    power = librosa.feature.melspectrogram(
        y=WAVEFORM, sr=32_000, n_fft=1024, hop_length=640, n_mels=40, fmin=500, fmax=10_000
    )
    decibels = librosa.power_to_db(power, ref=np.max, top_db=50)
    expected = (decibels - decibels.mean()) / decibels.std()
    np.testing.assert_allclose(found, expected.T, rtol=0, atol=tolerances.FRONTEND_DB)


def test_shape_is_librosa_s_mel_power_over_its_median() -> None:
    """The level of the recording does not matter."""
    power = librosa.feature.melspectrogram(
        y=WAVEFORM, sr=32_000, n_fft=4096, hop_length=640, n_mels=80, fmin=500, fmax=10_000
    )
    expected = librosa.util.normalize(np.log1p(power / np.median(power)), norm=2, axis=0)
    for gain in (1.0, 0.1):
        found = open_features(FeatureSettings("shape", 50)).compute(WAVEFORM * np.float32(gain))
        np.testing.assert_allclose(found, expected.T, rtol=0, atol=tolerances.SHAPE_FEATURES)


def test_silence_has_finite_features() -> None:
    for name in ("logmel", "shape"):
        assert np.isfinite(open_features(FeatureSettings(name, 10)).compute(np.zeros(64_000, np.float32))).all()


def test_levels_are_root_mean_squares_of_hops() -> None:
    x = RNG.standard_normal(1050).astype(np.float32)
    expected = [np.sqrt(np.square(x[i * 100 : i * 100 + 100].astype(float)).sum() / 100) for i in range(13)]
    np.testing.assert_allclose(frame_levels(x, 100, 13), expected, rtol=tolerances.FLOAT64_SUMS)
    np.testing.assert_allclose(frame_levels(x, 100, 4), expected[:4], rtol=tolerances.FLOAT64_SUMS)


def test_wrong_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings, message in (
        (
            FeatureSettings("sens"),
            "--feature must be one of cens, chroma, logmel, shape, embedding.* Did you mean 'cens'",
        ),
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


def test_embeddings_are_those_of_windows_that_begin_at_every_frame(tmp_path: Path) -> None:
    need("onnxruntime")
    file, card = embedding_store.write_encoder(tmp_path)
    waveform = embedding_store.write_recordings(tmp_path / "in", 1)["r00.wav"]
    features = open_features(FeatureSettings("embedding", 20, str(file), str(card)))
    assert (features.sample_rate_hz, features.hop) == (16_000, 800) and features.identity
    windows = np.stack([waveform[i : i + 3200] for i in range(0, len(waveform) - 3199, 800)])
    expected = foreign_encoders.embedding(windows, embedding_store.WIDTH)
    expected = expected - expected.mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = features.compute(waveform)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerances.CENTERED_EMBEDDINGS)
    assert features.compute(waveform[:3199]).shape == (0, embedding_store.WIDTH)
    with pytest.raises(UserError, match=r"--cens-sr must be in 5\.\.100 frames a second for windows of 0\.2 s"):
        open_features(FeatureSettings("embedding", 4, str(file), str(card)))
