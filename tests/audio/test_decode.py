"""Decoding in blocks: sample statistics, channels, and plausibility of what was opened."""

import struct

import numpy as np
import pytest
import soundfile as sf

from birdnet_fs.audio import read as audio
from birdnet_fs.audio.decode import BLOCK, blocks, channel_blocks
from birdnet_fs.audio.source import open_source

RATE = 44_100
SECONDS = 20


def signal():
    t = np.arange(SECONDS * RATE) / RATE
    noise = np.random.default_rng(0).standard_normal(len(t))
    return (0.4 * np.sin(2 * np.pi * 3000 * t * (1 + 0.01 * np.sin(t))) + 0.05 * noise).astype(np.float32)


def put(folder, name, raw):
    path = folder / name
    path.write_bytes(bytes(raw))
    return path


def native(path):
    return audio.read_audio(path, sample_rate_hz=RATE)


def test_bad_samples_become_zero_and_are_counted(tmp_path):
    x = signal()[:RATE].copy()
    x[[100, 200, 300, 400]] = [np.nan, np.inf, -np.inf, 1e30]
    sf.write(tmp_path / "n.wav", x, RATE, subtype="FLOAT")
    found = native(tmp_path / "n.wav")
    assert found.flags == ("bad_samples=4",)
    expected = x.copy()
    expected[[100, 200, 300, 400]] = 0
    assert np.array_equal(found.waveform, expected)
    resampled = audio.read_audio(tmp_path / "n.wav", sample_rate_hz=32_000).waveform
    assert np.isfinite(resampled).all() and np.abs(resampled).max() < 1


def test_assess_refuses_mostly_bad_samples(tmp_path):
    x = np.full(1000, np.nan, np.float32)
    x[:100] = 0.1
    sf.write(tmp_path / "n.wav", x, RATE, subtype="FLOAT")
    with pytest.raises(audio.AudioError, match="900 of 1000 samples"):
        native(tmp_path / "n.wav")


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_assess_flags_silent_and_constant_recordings(tmp_path, level):
    sf.write(tmp_path / "s.wav", np.full(RATE, level), RATE)
    assert native(tmp_path / "s.wav").flags == ("silent",)
    quiet = np.random.default_rng(0).normal(0, 1e-4, RATE)
    sf.write(tmp_path / "q.wav", quiet, RATE, subtype="PCM_24")
    assert native(tmp_path / "q.wav").flags == ()


def test_antiphase_uses_the_louder_channel(tmp_path):
    x = signal()[: 3 * RATE]
    sf.write(tmp_path / "a.wav", np.stack([0.9 * x, -x], 1), RATE, subtype="FLOAT")
    found = native(tmp_path / "a.wav")
    assert found.flags == ("antiphase",)
    assert np.array_equal(found.waveform, -x)
    part = audio.read_audio(tmp_path / "a.wav", sample_rate_hz=RATE, onset_s=1, duration_s=1)
    assert np.array_equal(part.waveform, -x[RATE : 2 * RATE])
    stream = audio.stream_audio(tmp_path / "a.wav", sample_rate_hz=RATE, block_s=0.5)
    blocks = list(stream)
    assert stream.flags == ("antiphase",) and np.array_equal(blocks[-1], -x[-RATE // 2 :])


def test_dead_and_independent_channels_are_no_antiphase(tmp_path):
    x, y = signal()[:RATE], np.random.default_rng(2).normal(0, 0.1, RATE)
    for other in (np.zeros(RATE), y, x):
        sf.write(tmp_path / "d.wav", np.stack([x, other], 1), RATE)
        assert native(tmp_path / "d.wav").flags == ()


def test_unscaled_floats_are_kept_and_flagged(tmp_path):
    sf.write(tmp_path / "u.wav", signal()[:RATE] * 32_768, RATE, subtype="FLOAT")
    assert native(tmp_path / "u.wav").flags == ("beyond_full_scale",)


@pytest.mark.parametrize(("channels", "rate"), [(1000, 44_100), (33, 44_100), (1, 1), (1, 999), (1, 2_000_000)])
def test_open_source_refuses_implausible_headers(tmp_path, channels, rate):
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + 8000, b"WAVE", b"fmt ", 16, 1, channels, rate,
                       (rate * channels * 2) & 0xFFFFFFFF, (channels * 2) & 0xFFFF, 16, b"data", 8000)  # fmt: skip
    path = put(tmp_path, "i.wav", head + bytes(range(1, 251)) * 32)
    with pytest.raises(audio.AudioError, match="plausible"):
        native(path)


def test_blocks_are_the_mean_of_channel_blocks(tmp_path):
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (BLOCK, 2)).astype(np.float32)  # two blocks of two channels
    sf.write(tmp_path / "s.wav", x, RATE, subtype="FLOAT")
    with open_source(tmp_path / "s.wav") as source:
        found = [block.copy() for block in channel_blocks(source)]
    assert [block.shape for block in found] == [(BLOCK // 2, 2)] * 2
    assert np.array_equal(np.concatenate(found), x)
    with open_source(tmp_path / "s.wav") as source:
        mono = np.concatenate([block.copy() for block in blocks(source, 100, 1000)])
        assert (source.tally.n_samples, source.declared) == (1000, BLOCK)
    assert np.array_equal(mono, (x[100:1100, 0] + x[100:1100, 1]) / 2)
