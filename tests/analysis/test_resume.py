"""Stamps of finished recordings: when they are valid."""

import os

import pytest

from birdnet_fs.analysis.resume import Stamp, read_stamp, stamp_key, stamp_path, write_stamp

STAMP = Stamp("partial", "the file ends early", ("silent", "clipped"), 12.5, 3)


@pytest.fixture
def finished(tmp_path):
    """The path, key and tables of a written stamp."""
    (tmp_path / "a.csv").write_text("")
    path = stamp_path(tmp_path, tmp_path / "a.wav")
    write_stamp(path, "key", STAMP)
    return path, "key", [tmp_path / "a.csv"]


def test_stamp_is_read_as_written(finished):
    assert read_stamp(*finished) == STAMP


def test_stamp_is_not_valid_for_another_key_or_without_its_tables(finished):
    path, key, tables = finished
    assert read_stamp(path, "other", tables) is None
    tables[0].write_text("corrected by hand")
    assert read_stamp(path, key, tables) == STAMP
    tables[0].unlink()
    assert read_stamp(path, key, tables) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key": "key"}', '{"key": "key", "status": "ok"}'])
def test_damaged_stamp_is_not_valid(finished, text):
    finished[0].write_text(text)
    assert read_stamp(*finished) is None


def test_key_depends_on_settings_size_and_modification_time(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"ab")
    os.utime(path, ns=(1, 1))
    key = stamp_key(path, {"model": "x", "top_n": 1})
    assert key == stamp_key(path, {"top_n": 1, "model": "x"})
    assert key != stamp_key(path, {"model": "y", "top_n": 1})
    os.utime(path, ns=(1, 2))
    assert key != stamp_key(path, {"model": "x", "top_n": 1})
    path.write_bytes(b"abc")
    os.utime(path, ns=(1, 1))
    assert key != stamp_key(path, {"model": "x", "top_n": 1})


def test_paths_of_stamps_differ_and_are_short(tmp_path):
    names = [tmp_path / f"{'n' * 250}{i}.wav" for i in range(3)]
    paths = {stamp_path(tmp_path, name) for name in names}
    assert len(paths) == 3 and all(path.parent == tmp_path / ".done" and len(path.name) == 37 for path in paths)
