"""One test per fault that recorders, disks and downloads produce; each fails against a plain soundfile.read."""

import functools
import os
import pickle
import struct

import numpy as np
import pytest
import soundfile as sf

from birdnet_fs.audio import read as audio

RATE = 44_100
SECONDS = 20


@functools.cache
def signal():
    t = np.arange(SECONDS * RATE) / RATE
    noise = np.random.default_rng(0).standard_normal(len(t))
    return (0.4 * np.sin(2 * np.pi * 3000 * t * (1 + 0.01 * np.sin(t))) + 0.05 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Bytes of the same sound by format."""
    folder = tmp_path_factory.mktemp("faults")
    found = {}
    for kind, options in {
        "wav": {},
        "flac": {},
        "ogg": {},
        "mp3": {},
        "opus": {"format": "OGG", "subtype": "OPUS"},
        "aiff": {},
        "rf64": {"format": "RF64"},
    }.items():
        rate = 48_000 if kind == "opus" else RATE
        path = folder / f"x.{kind}"
        with sf.SoundFile(path, "w", rate, 1, **options) as file:
            for at in range(0, SECONDS * RATE, RATE):
                file.write(signal()[at : at + RATE])
        found[kind] = path.read_bytes()
    return found


def put(folder, name, raw):
    path = folder / name
    path.write_bytes(bytes(raw))
    return path


def native(path):
    return audio.read_audio(path, sample_rate_hz=48_000 if path.suffix == ".opus" else RATE)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "opus", "aiff", "rf64"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.98])
def test_truncated_is_partial_with_its_true_length(data, tmp_path, kind, share):
    whole = native(put(tmp_path, f"w.{kind}", data[kind]))
    assert whole.status == "ok"
    cut = native(put(tmp_path, f"c.{kind}", data[kind][: int(len(data[kind]) * share)]))
    assert cut.status == "partial" and cut.reason
    assert cut.duration_s == len(cut.waveform) / cut.sample_rate_hz < whole.duration_s
    kept = len(cut.waveform) - 2048  # the last frame of a lossy format depends on the next one
    assert kept > share * len(whole.waveform) * 0.9 - 20_000
    assert np.array_equal(cut.waveform[:kept], whole.waveform[:kept])


def test_truncated_flac_loses_at_most_one_block(data, tmp_path):
    raw = data["flac"]
    with pytest.raises(sf.LibsndfileError):
        sf.read(put(tmp_path, "n.flac", raw[: int(len(raw) * 0.98)]))
    full = signal()
    frames = range(len(raw) // 2, len(raw) // 2 + 40_000, 10_000)
    for size in frames:
        cut = native(put(tmp_path, "c.flac", raw[:size]))
        expected = len(full) * size / len(raw)  # stationary sound: bytes follow time
        assert len(cut.waveform) > expected - 3 * 4096  # FLAC's own block is 4,096 samples
        assert np.abs(cut.waveform - full[: len(cut.waveform)]).max() < 1e-4


@pytest.mark.parametrize("damage", ["noise", "hole"])
def test_damaged_ogg_has_an_unreliable_time_axis(data, tmp_path, damage):
    raw = bytearray(data["ogg"])
    middle = len(raw) // 2
    raw[middle : middle + 2000] = b"" if damage == "hole" else os.urandom(2000)
    path = put(tmp_path, "d.ogg", raw)
    assert len(sf.read(path)[0]) < SECONDS * RATE  # shorter than its header says, and no error
    found = native(path)
    assert found.status == "partial" and "time_axis_unreliable" in found.flags


@pytest.mark.parametrize("kind", ["flac", "mp3"])
def test_damage_in_the_middle_keeps_the_front(data, tmp_path, kind):
    raw = bytearray(data[kind])
    middle = len(raw) // 2
    raw[middle : middle + 3000] = bytes(3000)
    found = native(put(tmp_path, f"d.{kind}", raw))
    assert found.status == "partial" and found.duration_s > SECONDS * 0.45


def test_seek_beyond_the_end_of_an_mp3_is_refused(data, tmp_path):
    path = put(tmp_path, "c.mp3", data["mp3"][: len(data["mp3"]) // 2])
    with pytest.raises(audio.AudioError, match=r"ends earlier|no samples"):
        audio.read_audio(path, sample_rate_hz=RATE, onset_s=15, duration_s=1)
    assert audio.duration_s(path) == native(path).duration_s  # of the decoded samples


@pytest.mark.parametrize("size", [0, 44, 200_000])
@pytest.mark.parametrize("kind", ["wav", "rf64"])
def test_wav_with_a_wrong_data_size_is_repaired(data, tmp_path, size, kind):
    raw = bytearray(data[kind])
    at = raw.find(b"data")
    if kind == "rf64":
        at = raw.find(b"ds64") + 12
        raw[at + 4 : at + 12] = struct.pack("<Q", size)
    else:
        raw[at + 4 : at + 8] = struct.pack("<I", size)
    path = put(tmp_path, "r.wav", raw)
    assert len(sf.read(path)[0]) == size // 2
    found = native(path)
    assert (found.status, found.flags) == ("partial", ("header_repaired",))
    assert np.abs(found.waveform[: SECONDS * RATE] - signal()).max() < 1e-4
    assert found.duration_s == SECONDS == audio.duration_s(path)
    part = audio.read_audio(path, sample_rate_hz=RATE, onset_s=10, duration_s=1)
    assert np.array_equal(part.waveform, found.waveform[10 * RATE : 11 * RATE])


def test_wav_with_chunks_behind_the_samples_is_ok(data, tmp_path):
    raw = bytearray(data["wav"]) + b"LIST" + struct.pack("<I", 10_000) + bytes(10_000)
    raw[4:8] = struct.pack("<I", len(raw) - 8)
    assert (native(put(tmp_path, "l.wav", raw)).status, native(tmp_path / "l.wav").flags) == ("ok", ())


def test_streamed_wav_of_unknown_length_is_ok(data, tmp_path):
    raw = bytearray(data["wav"])
    at = raw.find(b"data")
    raw[at + 4 : at + 8] = struct.pack("<I", 0xFFFFFFFF)
    found = native(put(tmp_path, "s.wav", raw))
    assert (found.status, found.flags, found.duration_s) == ("ok", ("length_not_stated",), SECONDS)


@pytest.mark.parametrize("length", [2 * SECONDS * RATE, 0, 2**36 - 1, SECONDS * RATE // 3, 50])
def test_flac_with_a_wrong_length_is_read_whole(data, tmp_path, length):
    raw = bytearray(data["flac"])
    value = int.from_bytes(raw[18:26], "big")
    raw[18:26] = (value >> 36 << 36 | length).to_bytes(8, "big")
    path = put(tmp_path, "f.flac", raw)
    try:
        naive = len(sf.read(path)[0])
    except (sf.LibsndfileError, ValueError, MemoryError):
        naive = -1
    assert naive != SECONDS * RATE
    found = native(path)
    assert len(found.waveform) == SECONDS * RATE
    expected = (
        ("ok", ("length_not_stated",)) if length == 0 else ("partial", ("wrong_header_length",))
    )  # 0 means unknown, which is allowed
    assert (found.status, found.flags) == expected
    assert audio.duration_s(path) == SECONDS
    part = audio.read_audio(path, sample_rate_hz=RATE, onset_s=12, duration_s=1)
    assert np.array_equal(part.waveform, found.waveform[12 * RATE : 13 * RATE])


NOT_AUDIO = {
    "empty.wav": b"",
    "zeros.wav": bytes(10_000),
    "junk.mp3": np.random.default_rng(3).bytes(20_000),
    "page.mp3": b"<!DOCTYPE html><html><body>404</body></html>",
    "header_only.wav": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x44\xac\0\0\x88\x58\1\0\2\0\x10\0data\0\0\0\0",
    "text.flac": b"fLaC" + bytes(10),
    "pages.ogg": b"OggS" + bytes(200),
    "x.m4a": b"\0\0\0\x20ftypM4A " + bytes(500),
    "y.wav": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(500),
    "z.aac": b"\xff\xf1\x50\x80" + bytes(500),
    "other.wma": b"something else entirely" * 10,
}


@pytest.mark.parametrize("name", NOT_AUDIO)
def test_files_that_are_not_audio_raise_one_error(tmp_path, name):
    path = put(tmp_path, name, NOT_AUDIO[name])
    calls = (
        native,
        audio.check_audio,
        audio.duration_s,
        lambda p: list(audio.stream_audio(p, sample_rate_hz=RATE)),
        lambda p: audio.read_audio(p, sample_rate_hz=RATE, onset_s=1, duration_s=1),
    )
    for call in calls:
        with pytest.raises(audio.AudioError) as error:
            call(path)
        assert error.value.path == path and error.value.reason and str(path) in str(error.value)
    if name in ("x.m4a", "y.wav", "z.aac", "other.wma"):
        assert "ffmpeg" in error.value.reason


def test_missing_files_folders_and_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    cases = {
        tmp_path / "none.wav": "does not exist",
        tmp_path: "folder",
        tmp_path / "pipe.wav": "pipe",
        "a\0b": "opened",
    }
    for path, reason in cases.items():
        with pytest.raises(audio.AudioError, match=reason):
            audio.read_audio(path, sample_rate_hz=RATE)


def test_audio_error_can_be_pickled(tmp_path):
    error = audio.AudioError("too bad.", tmp_path / "a.wav")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.reason) == (str(error), "too bad.")


def test_wrong_extension_is_accepted_and_flagged(data, tmp_path):
    found = native(put(tmp_path, "really.wav", data["flac"]))
    assert (found.status, found.flags, len(found.waveform)) == ("ok", ("wrong_extension",), SECONDS * RATE)
    assert native(put(tmp_path, "x.bin", data["mp3"])).flags == ("wrong_extension",)
