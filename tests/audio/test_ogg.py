"""Parts of Ogg Vorbis files: equal to the whole, at their true time, without decoding from the start."""

import io

import numpy as np
import pytest
import soundfile as sf
from audio_files import RATE, chirps, write

from birdnet_fs.audio import read as audio
from birdnet_fs.audio.ogg import checksum, gap_before, next_page, page_at, scan_pages


@pytest.fixture(scope="module")
def long_ogg(tmp_path_factory):
    """Stereo, loud, quiet and silent in turn: pages hold from 0.1 s to seconds."""
    signal = np.stack([chirps(60, 44_100), chirps(60, 44_100, 1)], 1)
    level = np.random.default_rng(2).choice([0, 1e-4, 0.1, 1], 60)
    return write(tmp_path_factory.mktemp("ogg") / "long.ogg", signal * np.repeat(level, 44_100)[:, None], 44_100)


@pytest.mark.shared
def test_parts_of_real_ogg_files(shared_data):
    for path in sorted((shared_data / "audio").glob("birds10_*.ogg"))[::12]:
        whole = audio.read_audio(path, sample_rate_hz=RATE).waveform
        for onset in (0.5, 2.0, 3.3):
            part = audio.read_audio(path, sample_rate_hz=RATE, onset_s=onset, duration_s=2.0).waveform
            assert np.array_equal(part, whole[round(onset * RATE) :][: len(part)])


def test_parts_equal_the_whole_and_are_not_decoded_from_the_start(long_ogg, monkeypatch):
    whole = audio.read_audio(long_ogg, sample_rate_hz=44_100).waveform
    decoded = []
    original = sf.SoundFile.buffer_read_into
    monkeypatch.setattr(
        sf.SoundFile, "buffer_read_into", lambda *a, **k: decoded.append(original(*a, **k)) or decoded[-1]
    )
    for onset in [0.01, 0.3, 59.9, *np.random.default_rng(0).uniform(0, 59, 40)]:
        part = audio.read_audio(long_ogg, sample_rate_hz=44_100, onset_s=onset, duration_s=0.7)
        first = round(onset * 44_100)
        assert part.status == "ok"
        assert np.array_equal(part.waveform, whole[first : first + round(0.7 * 44_100)])
    last = audio.read_audio(long_ogg, sample_rate_hz=44_100, onset_s=50).waveform
    assert np.array_equal(last, whole[50 * 44_100 :])
    assert sum(decoded) < 8 * len(whole)  # 22 times the file from its start


def test_part_of_a_damaged_ogg_file_is_at_its_true_time(long_ogg, tmp_path):
    """Two seconds are lost in front of it: what is read in one go is shifted by them."""
    whole = audio.read_audio(long_ogg, sample_rate_hz=44_100).waveform
    raw = bytearray(long_ogg.read_bytes())
    at = len(raw) // 4
    raw[at : at + len(raw) // 30] = b""
    damaged = tmp_path / "d.ogg"
    damaged.write_bytes(raw)
    assert len(audio.read_audio(damaged, sample_rate_hz=44_100).waveform) < len(whole) - 10_000
    part = audio.read_audio(damaged, sample_rate_hz=44_100, onset_s=40, duration_s=3).waveform
    assert np.array_equal(part, whole[40 * 44_100 : 43 * 44_100])


def test_pages_follow_each_other(long_ogg):
    size = long_ogg.stat().st_size
    with io.FileIO(long_ogg) as file:
        pages = [page_at(file, 0)]
        while pages[-1].end < size:
            pages.append(page_at(file, pages[-1].end))
        assert pages[-1].end == size and pages[-1].sample == 60 * 44_100
        assert page_at(file, 1) is None
        assert next_page(file, pages[3].begin + 1, size, pages[0].serial) == pages[4]


def test_gap_before_ends_before_the_wanted_sample(long_ogg):
    with io.FileIO(long_ogg) as file:
        size = long_ogg.stat().st_size
        assert gap_before(file, size, 100) is None  # nothing to omit at the start
        begin, end = gap_before(file, size, 30 * 44_100)
        assert 0 < begin < end and page_at(file, end).sample > 20 * 44_100


@pytest.fixture(scope="module")
def stream() -> bytes:
    """Ogg Vorbis of 6 s, of several pages."""
    file = io.BytesIO()
    with sf.SoundFile(file, "w", 32_000, 1, format="OGG", compression_level=0.2) as out:
        out.write(0.1 * np.random.default_rng(0).standard_normal(6 * 32_000))
    return file.getvalue()


def pages(raw: bytes) -> list[int]:
    """Byte offsets of the pages."""
    found, at = [], 0
    while at < len(raw):
        found.append(at)
        at = page_at(io.BytesIO(raw), at).end
    return found


def status(tmp_path, raw: bytes) -> audio.AudioCheck:
    (tmp_path / "x.ogg").write_bytes(raw)
    return audio.check_audio(tmp_path / "x.ogg")


def test_checksum_is_the_one_in_intact_pages(stream):
    for begin in pages(stream):
        page = bytearray(stream[begin : page_at(io.BytesIO(stream), begin).end])
        stored, page[22:26] = bytes(page[22:26]), bytes(4)
        assert checksum(bytes(page)) == stored


def test_granule_position_of_a_damaged_last_page_states_the_true_length(stream, tmp_path):
    raw = bytearray(stream)
    raw[-100] ^= 1
    assert len(sf.read(io.BytesIO(raw))[0]) < 6 * 32_000  # and no error
    found = status(tmp_path, bytes(raw))
    lost = 6 - found.duration_s
    assert found.status == "partial" and f"{lost:.3f} s are lost at the end" in found.reason and lost > 0
    assert "s are lost" in status(tmp_path, stream[:-50]).reason


def test_page_that_is_damaged_or_missing_inside_is_said(stream, tmp_path):
    begins = pages(stream)
    a, b = begins[len(begins) // 2], begins[len(begins) // 2 + 1]
    damaged = bytearray(stream)
    damaged[a + 200] ^= 4
    for raw in (bytes(damaged), stream[:a] + stream[b:]):
        found = status(tmp_path, raw)
        assert found.status == "partial" and "time_axis_unreliable" in found.flags and "1 page is" in found.reason
    [chain] = scan_pages(io.BytesIO(stream[:a] + stream[b:]), 0, len(stream) - b + a)
    assert (chain.n_damaged, chain.ended, chain.stated) == (1, True, 6 * 32_000)


def test_joined_streams_are_read_whole(stream, tmp_path):
    for raw in (stream + stream, stream + bytes(100) + stream):  # also with the same serial number
        found = status(tmp_path, raw)
        assert (found.status, found.duration_s, found.flags) == ("ok", 12.0, ("joined=2",))
    part = audio.read_audio(tmp_path / "x.ogg", sample_rate_hz=32_000, onset_s=7, duration_s=1)
    (tmp_path / "1.ogg").write_bytes(stream)
    assert np.array_equal(
        part.waveform, audio.read_audio(tmp_path / "1.ogg", sample_rate_hz=32_000).waveform[32_000:64_000]
    )
    assert status(tmp_path, stream + stream[:-200]).status == "partial"
