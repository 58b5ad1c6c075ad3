"""Reading: equal to librosa, parts equal to slices of the whole, streams equal to reads."""

import os

import numpy as np
import pytest
import soundfile as sf
import tolerances
import uncompiled_librosa as librosa
from audio_files import RATE, chirps, write

from birdnet_fs.audio import read as audio
from birdnet_fs.audio.find import find_audio


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    mono = chirps(11.3, 44_100)
    stereo = np.stack([mono, chirps(11.3, 44_100, 1)], 1)
    return {
        "wav": write(folder / "a.wav", mono, 44_100),
        "wav8": write(folder / "a8.wav", mono, 44_100, subtype="PCM_U8"),
        "wav24": write(folder / "a24.wav", stereo, 48_000, subtype="PCM_24"),
        "wav64": write(folder / "a64.wav", mono, 44_101, subtype="DOUBLE"),
        "aiff": write(folder / "a.aiff", mono, 22_050),
        "flac": write(folder / "a.flac", stereo, 44_100),
        "ogg": write(folder / "a.ogg", stereo, 44_100),
        "opus": write(folder / "a.opus", mono, 48_000, format="OGG", subtype="OPUS"),
        "mp3": write(folder / "a.mp3", mono, 44_100),
        "mp3low": write(folder / "b.mp3", stereo, 22_050),
    }


KINDS = ("wav", "wav8", "wav24", "wav64", "aiff", "flac", "ogg", "opus", "mp3", "mp3low")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [RATE, 22_050])
def test_read_audio_equals_librosa(files, kind, rate):
    theirs, _ = librosa.load(files[kind], sr=rate, res_type="soxr_hq")
    ours = audio.read_audio(files[kind], sample_rate_hz=rate)
    assert (ours.status, ours.reason, ours.flags, ours.waveform.dtype) == ("ok", "", (), np.float32)
    assert abs(len(ours.waveform) - len(theirs)) <= 1  # librosa rounds the length up and pads
    n = min(len(theirs), len(ours.waveform))
    np.testing.assert_allclose(ours.waveform[:n], theirs[:n], atol=tolerances.SAME_RESAMPLER, rtol=0)
    with sf.SoundFile(files[kind]) as file:
        assert ours.duration_s == pytest.approx(file.frames / file.samplerate)


@pytest.mark.parametrize("kind", ["wav", "wav8", "wav64", "aiff", "opus", "mp3"])
def test_read_audio_equals_libsndfile_at_the_native_rate(files, kind):
    """Whether the samples are 16-bit integers, made float32 here, or libsndfile's own float32."""
    theirs, rate = sf.read(files[kind], dtype="float32")
    assert np.array_equal(audio.read_audio(files[kind], sample_rate_hz=rate).waveform, theirs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_read_audio_part_equals_slice_of_whole(files, kind, rate):
    """Fails for Ogg Vorbis and MP3 when libsndfile's seek is believed."""
    whole = audio.read_audio(files[kind], sample_rate_hz=rate).waveform
    atol = {"mp3": tolerances.MP3_PART, "mp3low": tolerances.MP3_PART, "wav64": tolerances.ODD_RATE_PART}.get(
        kind, tolerances.PART_OF_WHOLE
    )
    rng = np.random.default_rng(5)
    for onset in [0.0, 1.0, 2.0, *rng.uniform(0, len(whole) / rate - 0.6, 6)]:
        part = audio.read_audio(files[kind], sample_rate_hz=rate, onset_s=onset, duration_s=0.5)
        first = round(onset * rate)
        assert len(part.waveform) == round(0.5 * rate)
        np.testing.assert_allclose(part.waveform, whole[first : first + len(part.waveform)], atol=atol, rtol=0)


@pytest.mark.shared
def test_check_audio_accepts_every_real_file(shared_data):
    for path in find_audio(shared_data / "audio").paths[::9]:
        checked = audio.check_audio(path)
        assert (checked.status, checked.flags, checked.sample_rate_hz) == ("ok", (), RATE), path
        theirs, _ = librosa.load(path, sr=None)
        assert checked.duration_s == len(theirs) / RATE == audio.duration_s(path)


@pytest.mark.parametrize("kind", KINDS)
def test_stream_audio_equals_read_audio(files, kind):
    whole = audio.read_audio(files[kind], sample_rate_hz=RATE)
    stream = audio.stream_audio(files[kind], sample_rate_hz=RATE, block_s=1.7)
    found = list(stream)
    assert {len(block) for block in found[:-1]} == {round(1.7 * RATE)}
    assert 0 < len(found[-1]) <= round(1.7 * RATE)
    assert np.array_equal(np.concatenate(found), whole.waveform)
    seen = (stream.status, stream.flags, stream.reason, stream.duration_s)
    assert seen == (whole.status, whole.flags, whole.reason, whole.duration_s)


def test_read_audio_part_does_not_decode_the_whole(tmp_path, monkeypatch):
    path = write(tmp_path / "long.flac", np.tile(chirps(10, 8000), 12), 8000)
    decoded = []
    original = sf.SoundFile.buffer_read_into
    monkeypatch.setattr(
        sf.SoundFile, "buffer_read_into", lambda *a, **k: decoded.append(original(*a, **k)) or decoded[-1]
    )
    audio.read_audio(path, sample_rate_hz=8000, onset_s=100, duration_s=2)
    assert sum(decoded) <= 2 * 8000


def test_read_audio_beyond_the_end(files):
    part = audio.read_audio(files["wav"], sample_rate_hz=RATE, onset_s=11.0, duration_s=2.0)
    assert (part.flags, round(part.duration_s, 2)) == (("short",), 0.3)
    for kind in ("wav", "flac", "ogg", "mp3"):
        with pytest.raises(audio.AudioError, match="ends earlier"):
            audio.read_audio(files[kind], sample_rate_hz=RATE, onset_s=30.0, duration_s=2.0)
    with pytest.raises(ValueError, match="0 or more"):
        audio.read_audio(files["wav"], sample_rate_hz=RATE, onset_s=-1.0)


def test_read_audio_accepts_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9 [1].wav")
    path = write(tmp_path / "plain.wav", chirps(1, 8000), 8000).rename(tmp_path / name)
    assert audio.read_audio(path, sample_rate_hz=8000).status == "ok"
    (tmp_path / "sub [x]").mkdir()
    os.rename(path, tmp_path / "sub [x]" / name)
    with pytest.raises(audio.AudioError) as error:
        audio.read_audio(tmp_path / os.fsdecode(b"no\xe9.wav"), sample_rate_hz=8000)
    str(error.value).encode("utf-8")


@pytest.mark.parametrize("n", [1, 2, 10, 400])
def test_read_audio_of_very_short_files(tmp_path, n):
    path = write(tmp_path / "s.wav", chirps(1, 44_100)[:n] + 0.1, 44_100)
    read = audio.read_audio(path, sample_rate_hz=RATE)
    assert abs(len(read.waveform) - n * RATE / 44_100) <= 1


def test_stream_audio_of_long_files_in_constant_memory(tmp_path):
    import tracemalloc

    path = tmp_path / "long.flac"
    with sf.SoundFile(path, "w", 16_000, 1) as file:
        for _ in range(12):
            file.write(chirps(60, 16_000))
    tracemalloc.start()
    total = sum(len(block) for block in audio.stream_audio(path, sample_rate_hz=32_000, block_s=10.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 12 * 60 * 32_000  # 92 MB of samples
    assert peak < 15e6
