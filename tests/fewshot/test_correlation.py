"""Spectrogram cross-correlation against scipy's correlation pair by pair, cases by hand, and tones that are moved."""

import numpy as np
import pytest
import tolerances
from scipy.signal import correlate

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.episodes import draw_episodes
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.fewshot import correlation
from birdnet_fs.fewshot.correlation import correlation_frontend, correlations, spectrograms
from birdnet_fs.metrics.few_shot import by_pairs, summarize

SPEC = schema.FrontEnd(sample_rate_hz=16_000, fmin_hz=200.0, fmax_hz=8000.0)


def one_by_one(a, b, shift):
    """The largest of all sums of products, band by band."""
    n_bands, best = a.shape[1], -np.inf
    for bands in range(-shift, shift + 1):
        moved = np.zeros_like(b)
        for band in range(n_bands):
            if 0 <= band + bands < n_bands:
                moved[:, band + bands] = b[:, band]
        over_time = sum(correlate(a[:, band], moved[:, band], mode="full") for band in range(n_bands))
        best = max(best, over_time.max())
    return best


@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize("block_bytes", [1, 3_000, correlation.BLOCK_BYTES])
def test_correlations_are_those_of_scipy(shift, block_bytes, monkeypatch):
    monkeypatch.setattr(correlation, "BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(shift)
    clips = [rng.normal(size=(n, 5)).astype(np.float32) for n in (1, 4, 9, 9, 12, 30)]
    clips = [clip / np.linalg.norm(clip) for clip in clips]
    found = correlations(clips, shift=shift)
    expected = [[one_by_one(a.astype(float), b.astype(float), shift) for b in clips] for a in clips]
    assert np.abs(found - expected).max() < tolerances.CORRELATION
    assert np.array_equal(found, found.T)
    assert np.diag(found) == pytest.approx(1.0, abs=tolerances.CORRELATION)


def test_a_pair_worked_out_by_hand():
    """In the low band .6 can lie on .8; with the second one band higher, its .8 lies on the .8 of the high band."""
    first = np.array([[0.6, 0.0], [0.0, 0.8]], np.float32)
    second = np.array([[0.0, 0.0], [0.6, 0.0], [0.8, 0.0]], np.float32)
    assert correlations([first, second], shift=0)[0, 1] == pytest.approx(0.48)
    assert correlations([first, second], shift=1)[0, 1] == pytest.approx(0.64)


def burst(hz, onset_s, total_s=0.4, length_s=0.1):
    waveform = np.zeros(round(total_s * 16_000), np.float32)
    t = np.arange(round(length_s * 16_000)) / 16_000
    start = round(onset_s * 16_000)
    waveform[start : start + len(t)] = np.sin(2 * np.pi * hz * t) * np.hanning(len(t))
    return waveform


def test_a_sound_is_known_wherever_it_stands_and_not_at_another_pitch():
    sounds = [burst(1500, 0.05), burst(1500, 0.23), 0.1 * burst(1500, 0.1), burst(4000, 0.05)]
    found = correlations(spectrograms(sounds, SPEC))
    assert found[0, 1:3].min() > 0.95
    assert found[0, 3] < 0.3


def test_silence_is_like_nothing():
    shown = spectrograms([np.zeros(6400, np.float32), burst(1500, 0.1)], SPEC)
    assert not shown[0].any()
    exact = shown[1].astype(np.float64)  # BLAS adds float32 squares in float32 on some processors
    assert exact.mean() == pytest.approx(0.0, abs=1e-6) and np.linalg.norm(exact) == pytest.approx(1.0)
    assert correlations(shown)[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("sample_rate_hz", "length_s", "hop_length"), [(32_000, 0.08, 128), (32_000, 6.0, 1024), (250_000, 0.01, 1024)]
)
def test_frames_suit_the_length_of_the_clips(sample_rate_hz, length_s, hop_length):
    base = schema.FrontEnd(sample_rate_hz=sample_rate_hz)
    spec = correlation_frontend(base, round(length_s * sample_rate_hz))
    assert (spec.hop_length, spec.n_fft) == (hop_length, 2 * hop_length)
    assert spec.n_frames_of(round(length_s * sample_rate_hz)) <= correlation.MAX_FRAMES + 1
    assert (spec.fmin_hz, spec.fmax_hz) == (base.fmin_hz, base.fmax_hz)


def test_of_a_clip_far_longer_than_the_others_the_front_is_compared():
    long = np.concatenate([burst(1500, 0.1), np.zeros(100_000, np.float32), burst(4000, 0.1)])
    shown = spectrograms([burst(1500, 0.1)] * 3 + [long], SPEC)
    assert len(shown[3]) <= 4 * len(shown[0])
    assert correlations(shown)[0, 3] > 0.9


def test_bad_input_is_refused(monkeypatch):
    with pytest.raises(UserError, match="Received: none"):
        spectrograms([], SPEC)
    monkeypatch.setattr(correlation, "MAX_CLIPS", 2)
    with pytest.raises(UserError, match=r"At most 2 clips .*data\.where\. Received: 3"):
        correlations([np.ones((2, 2), np.float32)] * 3)


@pytest.mark.shared
def test_syllables_are_classified_better_than_by_band_means(shared_data):
    """Bengalese finch, 5 of 9 syllables, one of each to learn from, in other recordings; band statistics reach .87."""
    recordings = "|".join(f"bf_bird0_{i:03d}.flac" for i in range(120, 126))
    data = schema.Data(str(shared_data), table="annotations.csv", audio="audio", where=f"filename={recordings}")
    waveforms = Waveforms(read_manifest(data).clips, 32_000)
    pair_correlations = correlations(spectrograms(waveforms, schema.FrontEnd(fmin_hz=500.0)))
    labels, groups = [c.labels[0] for c in waveforms.clips], [c.group for c in waveforms.clips]
    episodes = draw_episodes(labels, groups, n_way=5, n_shot=1, n_query=5, n_episodes=1000, seed=0)
    assert summarize(by_pairs("correlation", pair_correlations, episodes)).low > 0.9
