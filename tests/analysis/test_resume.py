"""Stamps of finished recordings: when they are valid, and which tables they prove to be ours."""

import os
from pathlib import Path

import pytest

from birdnet_fs.analysis.resume import (
    Content,
    NotOursError,
    Outcome,
    Stamp,
    read_stamp,
    settings_key,
    stamp_path,
    write_tables,
)

OUTCOME = Outcome("partial", "the file ends early", ("silent", "clipped"), 12.5, 3)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    path.write_bytes(os.urandom(200_000))
    return path


@pytest.fixture
def written(tmp_path: Path, recording: Path) -> tuple[Path, Stamp]:
    """The path of a stamp, and the stamp, of two tables."""
    stamp = Stamp(Content.of(recording), "root", "key", OUTCOME, {})
    place = stamp_path(tmp_path, "a")
    assert write_tables(tmp_path, place, stamp, {"a.csv": "1\n", "a.txt": "2\n"}) == ([], [])
    found = read_stamp(place)
    assert found is not None
    return place, found


def test_stamp_is_read_as_written(written: tuple[Path, Stamp], recording: Path) -> None:
    _, stamp = written
    assert (
        stamp.outcome == OUTCOME
        and stamp.content == Content.of(recording)
        and list(stamp.tables)
        == [
            "a.csv",
            "a.txt",
        ]
    )


def test_stamp_is_valid_for_its_recording_settings_and_existing_tables(
    written: tuple[Path, Stamp], recording: Path, tmp_path: Path
) -> None:
    _, stamp = written
    content = Content.of(recording)
    whole = (content, "root", "key", ["a.csv", "a.txt"], tmp_path)
    assert stamp.is_finished(*whole)
    assert not stamp.is_finished(content, "root", "other", *whole[3:])
    assert not stamp.is_finished(content, "elsewhere", "key", *whole[3:])
    assert not stamp.is_finished(content, "root", "key", ["a.csv", "a.kaleidoscope.csv"], tmp_path)
    (tmp_path / "a.csv").write_text("corrected by hand")
    assert stamp.is_finished(*whole) and not stamp.wrote(tmp_path, "a.csv") and stamp.wrote(tmp_path, "a.txt")
    (tmp_path / "a.csv").unlink()
    assert not stamp.is_finished(*whole)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "key": "key"}', '{"format": 2, "settings": "key"}'])
def test_damaged_stamp_and_one_of_an_earlier_format_are_not_valid(written: tuple[Path, Stamp], text: str) -> None:
    place, _ = written
    place.write_text(text)
    assert read_stamp(place) is None


@pytest.mark.parametrize("at", [10_000, 199_999])
def test_content_depends_on_both_ends_size_and_time(recording: Path, at: int) -> None:
    before = Content.of(recording)
    times = (recording.stat().st_atime_ns, recording.stat().st_mtime_ns)
    data = bytearray(recording.read_bytes())
    data[at] ^= 1
    recording.write_bytes(data)
    os.utime(recording, ns=times)
    changed = Content.of(recording)
    assert changed != before and changed.samples != before.samples and changed.is_of(before)
    copy = recording.with_name("copy.wav")
    copy.write_bytes(data)
    assert Content.of(copy).is_of(changed) and not Content.of(copy).is_of(before)


def test_tables_that_are_not_ours_are_not_replaced(written: tuple[Path, Stamp], tmp_path: Path) -> None:
    place, stamp = written
    (tmp_path / "a.txt").write_text("corrected by hand")
    new = {"a.csv": "3\n", "a.txt": "4\n"}
    with pytest.raises(NotOursError, match=r"^a\.txt was changed"):
        write_tables(tmp_path, place, stamp, new)
    assert (tmp_path / "a.csv").read_text() == "1\n" and read_stamp(place) == stamp
    write_tables(tmp_path, place, stamp, new, overwrite=True)
    assert (tmp_path / "a.txt").read_text() == "4\n"


def test_settings_key_depends_on_values_only() -> None:
    assert settings_key({"model": "x", "top_n": 1}) == settings_key({"top_n": 1, "model": "x"})
    assert settings_key({"model": "x", "top_n": 1}) != settings_key({"model": "y", "top_n": 1})


def test_paths_of_stamps_differ_and_are_short(tmp_path: Path) -> None:
    paths = {stamp_path(tmp_path, f"{'n' * 250}{i}") for i in range(3)}
    assert len(paths) == 3 and all(path.parent == tmp_path / ".done" and len(path.name) == 37 for path in paths)
    assert stamp_path(tmp_path, "É") == stamp_path(tmp_path, "e\u0301")  # one table on some file systems
