"""Waveforms of clips: times, the memory limit, and clips that cannot be read."""

import numpy as np
import pytest
import soundfile as sf

from birdnet_fs.core.errors import UserError
from birdnet_fs.data import waveforms
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms

RATE = 8_000


@pytest.fixture
def ramp(tmp_path):
    """A recording of 1 s in which each sample is its number / 2**15."""
    samples = np.arange(RATE, dtype=np.float32) / 2**15
    sf.write(tmp_path / "ramp.wav", samples, RATE, subtype="FLOAT")
    return tmp_path / "ramp.wav", samples


def test_clips_are_read_at_their_times(ramp):
    path, samples = ramp
    found = Waveforms([Clip(path), Clip(path, 0.25, 0.5), Clip(path, 0.5)], RATE)
    assert len(found) == 3 and found[0].dtype == np.float32
    for waveform, wanted in zip(found, (samples, samples[2000:4000], samples[4000:]), strict=True):
        np.testing.assert_array_equal(waveform, wanted)


def test_waveforms_beyond_the_memory_limit_are_decoded_at_every_access(ramp, monkeypatch):
    path, samples = ramp
    clips = [Clip(path, 0.0, 0.5), Clip(path), Clip(path, 0.5)]
    found = Waveforms(clips, RATE, memory_bytes=samples.nbytes)
    decoded = []
    read = waveforms.read_audio
    monkeypatch.setattr(waveforms, "read_audio", lambda *args, **kw: decoded.append(kw["onset_s"]) or read(*args, **kw))
    assert [len(found[i]) for i in range(3)] == [4000, 8000, 4000] and decoded == [0.0]
    np.testing.assert_array_equal(found[1], samples)


def test_clips_that_cannot_be_read_are_left_out_and_listed(ramp, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    clips = [Clip(tmp_path / "broken.wav"), Clip(ramp[0]), Clip(ramp[0], 2.0, 3.0)]
    found = Waveforms(clips, RATE)
    assert found.clips == (clips[1],) and found.ledger.counts() == {"ok": 1, "partial": 0, "quarantined": 2}
    with pytest.raises(UserError, match=r"None of the 1 clips could be read; the first, .*broken\.wav"):
        Waveforms(clips[:1], RATE)
    assert len(Waveforms([], RATE)) == 0
