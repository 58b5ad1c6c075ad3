"""MPEG frames: counted as libsndfile decodes them, whatever the header says and whatever stands around them."""

import io

import numpy as np
import pytest
import soundfile as sf
from mutated_files import APE, ID3, ID3V1, without_info_frame

from birdnet_fs.audio import read as audio
from birdnet_fs.audio.file_view import BufferedFile, FileView
from birdnet_fs.audio.mpeg import parse_frame, scan

RATE = 16_000
SECONDS = 4
DELAY = 2 * 1152  # of encoder and decoder


@pytest.fixture(scope="module")
def mp3() -> dict[str, bytes]:
    """Files of a variable and of a constant bit rate, each with and without its Xing or Info header."""
    random = np.random.default_rng(0)
    t = np.arange(SECONDS * RATE) / RATE  # loud at first: the first frames are longer than the others
    x = (0.3 * np.sin(2 * np.pi * 2000 * t) + 0.2 * random.standard_normal(len(t))) * np.clip(1.5 - t, 0, 1)
    found = {}
    for mode in ("CONSTANT", "VARIABLE"):
        file = io.BytesIO()
        with sf.SoundFile(file, "w", RATE, 1, format="MP3", bitrate_mode=mode, compression_level=0.5) as out:
            out.write(x.astype(np.float32))
        found[mode] = file.getvalue()
        found[mode + "_BARE"] = without_info_frame(file.getvalue())
    return found


def check(tmp_path, raw: bytes) -> audio.AudioCheck:
    (tmp_path / "x.mp3").write_bytes(raw)
    assert audio.duration_s(tmp_path / "x.mp3") == audio.check_audio(tmp_path / "x.mp3").duration_s
    return audio.check_audio(tmp_path / "x.mp3")


@pytest.mark.parametrize(
    ("head", "n_bytes", "n_samples", "rate"),
    [
        ("fffb9064", 417, 1152, 44_100),  # sizes from the tables of ISO 11172-3 and 13818-3
        ("fffb9264", 418, 1152, 44_100),
        ("fff388c4", 288, 576, 16_000),
        ("ffe348c4", 288, 576, 8_000),
        ("fffd8404", 384, 1152, 48_000),
        ("ffff1800", 48, 384, 32_000),
    ],
)
def test_frame_headers(head, n_bytes, n_samples, rate):
    frame = parse_frame(bytes.fromhex(head))
    assert frame is not None and (frame.n_bytes, frame.n_samples, frame.rate_hz) == (n_bytes, n_samples, rate)
    for wrong in ("fffbf064", "fffb0064", "fffb9c64", "ffeb9064", "fff99064", "fefb9064"):
        assert parse_frame(bytes.fromhex(wrong)) is None


def test_length_follows_from_the_frames_without_a_header(mp3, tmp_path):
    naive = sf.SoundFile(io.BytesIO(mp3["VARIABLE_BARE"])).frames
    assert naive < SECONDS * RATE / 2  # libsndfile's estimate, at which it stops to read
    for mode in ("VARIABLE", "CONSTANT"):
        found = check(tmp_path, mp3[mode + "_BARE"])
        assert (found.status, found.flags) == ("ok", ("length_not_stated",))
        assert 0 <= found.duration_s * RATE - SECONDS * RATE <= DELAY
        assert (check(tmp_path, mp3[mode]).duration_s, check(tmp_path, mp3[mode]).flags) == (SECONDS, ())


@pytest.mark.parametrize("kind", ["VARIABLE", "CONSTANT", "VARIABLE_BARE", "CONSTANT_BARE"])
def test_tags_are_not_damage(mp3, tmp_path, kind):
    raw = mp3[kind]
    plain = check(tmp_path, raw)
    for tagged in (
        ID3 + raw,
        ID3 + ID3 + raw,
        raw + ID3V1,
        raw + APE + ID3V1,
        raw + b"LYRICSBEGINxLYRICS200",
        ID3 + raw + APE,
    ):
        found = check(tmp_path, tagged)
        assert (found.status, found.flags, found.duration_s) == ("ok", plain.flags, plain.duration_s)


def test_joined_files_are_read_whole(mp3, tmp_path):
    both = check(tmp_path, mp3["VARIABLE"] + ID3 + mp3["CONSTANT"] + ID3V1)
    assert (both.status, both.flags, both.duration_s) == ("ok", ("joined=2",), 2 * SECONDS)
    (tmp_path / "j.mp3").write_bytes(mp3["VARIABLE"] + mp3["CONSTANT"])
    part = audio.read_audio(tmp_path / "j.mp3", sample_rate_hz=RATE, onset_s=SECONDS + 1, duration_s=1)
    (tmp_path / "2.mp3").write_bytes(mp3["CONSTANT"])
    alone = audio.read_audio(tmp_path / "2.mp3", sample_rate_hz=RATE).waveform
    assert np.array_equal(part.waveform, alone[RATE : 2 * RATE])
    bare = check(tmp_path, 2 * mp3["VARIABLE_BARE"])
    assert bare.status == "ok" and bare.duration_s == pytest.approx(2 * SECONDS, abs=2 * DELAY / RATE)


def test_damage_is_found_by_the_frames(mp3, tmp_path):
    for kind in ("VARIABLE", "CONSTANT", "VARIABLE_BARE"):
        raw = mp3[kind]
        middle = len(raw) // 2
        cut = check(tmp_path, raw[: middle - 20])
        assert cut.status == "partial" and ("frames" in cut.reason or "was cut" in cut.reason)
        for hole in (raw[:middle] + bytes(1500) + raw[middle + 1500 :], raw[:middle] + raw[middle + 1500 :]):
            found = check(tmp_path, hole)
            assert found.status == "partial" and found.duration_s > 0.75 * SECONDS  # what follows the hole is kept
            assert "shifted" in found.reason or "are missing" in found.reason


def test_vbri_header_states_the_number_of_frames(mp3, tmp_path):
    raw = bytearray(mp3["CONSTANT"])
    [stream] = scan(io.BytesIO(raw), 0, len(raw))
    begin, end = stream.header
    raw[begin + 13 : end] = bytes(end - begin - 13)
    raw[begin + 36 : begin + 62] = b"VBRI" + bytes(10) + stream.n_frames.to_bytes(4, "big") + bytes(8)
    assert "length_not_stated" not in check(tmp_path, bytes(raw)).flags
    assert "frames" in check(tmp_path, bytes(raw[: len(raw) * 2 // 3])).reason


def test_view_of_frames_decodes_as_the_intact_file(mp3):
    raw = mp3["VARIABLE"]
    [stream] = scan(io.BytesIO(b"junk" * 99 + raw), 0, len(raw) + 396)
    view = BufferedFile(FileView(io.BytesIO(b"junk" * 99 + raw), stream.pieces()))
    assert np.array_equal(sf.read(view)[0], sf.read(io.BytesIO(raw))[0])
    assert scan(io.BytesIO(bytes(10_000)), 0, 10_000) == []
