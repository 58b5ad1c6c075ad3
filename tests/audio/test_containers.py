"""Containers that state a size: truncated, joined, of unknown length, and with chunks and tags behind the samples."""

import io
import struct

import numpy as np
import pytest
import soundfile as sf
from mutated_files import ID3V1

from birdnet_fs.audio import read as audio
from birdnet_fs.audio.containers import find_samples

RATE = 16_000
N = 8_000
KINDS = {
    "wav": "WAV",
    "rf64": "RF64",
    "aiff": "AIFF",
    "w64": "W64",
    "caf": "CAF",
    "au": "AU",
    "nist": "NIST",
    "svx": "SVX",
}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    x = np.linspace(-0.5, 0.5, N, dtype=np.float32)
    found = {}
    for kind, name in KINDS.items():
        file = io.BytesIO()
        with sf.SoundFile(file, "w", RATE, 1, format=name, subtype="PCM_16") as out:
            out.write(x)
        found[kind] = file.getvalue()
    return found


def read(tmp_path, kind: str, raw: bytes) -> audio.Audio:
    path = tmp_path / f"x.{kind}"
    path.write_bytes(bytes(raw))
    found = audio.read_audio(path, sample_rate_hz=RATE)
    assert audio.duration_s(path) == found.duration_s
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_found_where_libsndfile_finds_them(files, kind):
    _, samples = find_samples(io.BytesIO(files[kind]), 0, len(files[kind]))
    assert samples.n_bytes == 2 * N and samples.begin + 2 * N == len(files[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_is_partial_and_its_front_is_kept(files, tmp_path, kind):
    whole, raw = read(tmp_path, kind, files[kind]), files[kind]
    cut = read(tmp_path, kind, raw[:-6000])
    assert (whole.status, cut.status) == ("ok", "partial") and "the file holds" in cut.reason
    assert np.array_equal(cut.waveform, whole.waveform[: N - 3000])


@pytest.mark.parametrize("kind", KINDS)
def test_joined_files_are_read_whole_and_of_another_rate_said(files, tmp_path, kind):
    whole = read(tmp_path, kind, files[kind]).waveform
    both = read(tmp_path, kind, files[kind] * 3)
    assert (both.status, both.flags) == ("ok", ("joined=3",)) and np.array_equal(both.waveform, np.tile(whole, 3))
    path = tmp_path / f"x.{kind}"
    part = audio.read_audio(path, sample_rate_hz=RATE, onset_s=0.9, duration_s=0.2).waveform
    assert np.array_equal(part, both.waveform[round(0.9 * RATE) : round(1.1 * RATE)])
    other = io.BytesIO()
    with sf.SoundFile(other, "w", 8_000, 1, format=KINDS[kind], subtype="PCM_16") as out:
        out.write(np.full(4000, 0.1))
    mixed = read(tmp_path, kind, files[kind] + other.getvalue())
    assert mixed.status == "partial" and "8000 Hz" in mixed.reason and np.array_equal(mixed.waveform, whole)


@pytest.mark.parametrize(("kind", "at", "unknown"), [("au", 8, b"\xff" * 4), ("caf", 4084, b"\xff" * 8)])
def test_unknown_length_is_flagged(files, tmp_path, kind, at, unknown):
    raw = bytearray(files[kind])
    raw[at : at + len(unknown)] = unknown
    found = read(tmp_path, kind, raw)
    assert (found.status, found.flags, found.duration_s) == ("ok", ("length_not_stated",), N / RATE)


@pytest.mark.parametrize(
    ("kind", "at", "form"), [("au", 8, ">I"), ("caf", 4084, ">q"), ("w64", 96, "<Q"), ("svx", 96, ">I")]
)
def test_a_size_that_is_too_small_is_repaired(files, tmp_path, kind, at, form):
    raw = bytearray(files[kind])
    n = struct.calcsize(form)
    assert struct.unpack(form, raw[at : at + n])[0] - 2 * N in (0, 4, 24)
    raw[at : at + n] = struct.pack(form, 2048)
    found = read(tmp_path, kind, raw)
    assert (found.status, found.flags, found.duration_s) == ("partial", ("header_repaired",), N / RATE)


@pytest.mark.parametrize("kind", KINDS)
def test_tags_and_padding_behind_the_samples_are_not_samples(files, tmp_path, kind):
    for tail in (ID3V1, bytes(2048)):
        found = read(tmp_path, kind, files[kind] + tail)
        assert (found.status, found.duration_s) == ("ok", N / RATE)


def test_chunk_behind_wave64_samples_is_not_audio(files, tmp_path):
    guid = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
    raw = files["w64"] + b"list" + guid + struct.pack("<Q", 24 + 4000) + b"\x55" * 4000
    assert len(sf.read(io.BytesIO(raw))[0]) > N  # libsndfile reads the chunk as samples
    assert read(tmp_path, "w64", raw).duration_s == N / RATE


def test_odd_chunk_without_padding_does_not_hide_the_samples(files, tmp_path):
    raw = files["wav"]
    odd = raw[:36] + b"LIST" + struct.pack("<I", 5) + b"hello" + raw[36:]
    assert find_samples(io.BytesIO(odd), 0, len(odd))[1].begin == len(odd) - 2 * N
    padded = raw[:36] + b"LIST" + struct.pack("<I", 5) + b"hello\0" + raw[36:]
    assert read(tmp_path, "wav", padded[:-4000]).status == "partial"


def test_millions_of_empty_chunks_end_soon(tmp_path):
    raw = b"RIFF\xff\xff\xff\x7fWAVE" + b"abcd\0\0\0\0" * 200_000
    assert find_samples(io.BytesIO(raw), 0, len(raw)) == ("wav", None)
