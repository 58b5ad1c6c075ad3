"""Recordings of a folder, and the account of everything else in it."""

import os

import pytest

from birdnet_fs.audio.files import AudioError
from birdnet_fs.audio.find import FoundAudio, find_audio


def test_recordings_are_sorted_and_other_files_are_counted_by_kind(tmp_path):
    names = (
        "b/x.WAV",
        "a.flac",
        "b/c/y.mp3",
        "old.m4a",
        "card.wac",
        "b/z.txt",
        "b/Z.TXT",
        "r",
        ".h.wav",
        ".trash/q.wav",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_audio(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found.paths] == [
        "a.flac",
        "b/c/y.mp3",
        "b/x.WAV",
        "card.wac",
        "old.m4a",
    ]
    assert found.others == {".txt": 2, "": 1} and found.n_hidden == 2
    assert found.notes[0] == "2 .txt files, 1 extensionless file were not read (not an audio extension)."
    assert len(names) == len(found.paths) + sum(found.others.values()) + found.n_hidden


def test_names_with_brackets_and_bytes_that_are_not_utf8_are_found(tmp_path):
    place = tmp_path / "sub [x]"
    place.mkdir()
    (place / os.fsdecode(b"caf\xe9 [1]\r.wav")).touch()
    assert [os.fsencode(path.name) for path in find_audio(tmp_path).paths] == [b"caf\xe9 [1]\r.wav"]


def test_many_kinds_are_summed_and_a_single_file_is_worded_as_one():
    kinds = {f".k{i:02d}": 20 - i for i in range(11)}
    [note] = FoundAudio((), (), kinds).notes
    assert note.startswith("20 .k00 files, 19 .k01 files") and "33 files of 3 other kinds were not read" in note
    assert FoundAudio((), (), {".xyz": 1}).notes == ["1 .xyz file was not read (not an audio extension)."]
    assert FoundAudio(()).notes == []


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(AudioError, match="cannot be read"):
        find_audio(tmp_path / "none")
