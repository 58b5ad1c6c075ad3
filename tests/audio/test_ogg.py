"""Parts of Ogg Vorbis files: equal to the whole, at their true time, without decoding from the start."""

import io

import numpy as np
import pytest
import soundfile as sf
from audio_files import RATE, chirps, write

from birdnet_fs.audio import read as audio
from birdnet_fs.audio.ogg import FileWithoutRange, gap_before, next_page, page_at


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


def test_file_without_range_reads_the_rest(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(100)))
    view = FileWithoutRange(io.FileIO(tmp_path / "a"), 10, 90, 100)
    assert view.read() == bytes([*range(10), *range(90, 100)])
    assert view.seek(-5, io.SEEK_END) == 15 and view.read(2) == bytes([95, 96])
