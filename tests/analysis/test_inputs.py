"""Recordings of files and folders, and the names of their tables."""

import os
from pathlib import Path

import pytest

from birdnet_fs.analysis.inputs import find_recordings, table_stems
from birdnet_fs.core.errors import UserError


def files(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return [root / name for name in names]


def test_recordings_are_found_once_and_sorted_below_their_common_folder(tmp_path):
    paths = files(tmp_path, "x/b.wav", "x/deep/a.flac", "y/c.mp3", "y/notes.txt")
    root, found, _ = find_recordings([tmp_path / "y", tmp_path / "x", tmp_path / "x" / "b.wav"])
    assert root == tmp_path and found == sorted(paths[:3])


def test_root_of_a_file_is_its_folder_and_any_file_can_be_given(tmp_path):
    [path] = files(tmp_path, "x/notes.txt")
    assert find_recordings([path]) == (tmp_path / "x", [path], [])


@pytest.mark.parametrize(
    ("name", "message"), [(None, "at least one"), ("absent", "does not exist"), ("x", "No recordings")]
)
def test_missing_recordings_are_refused(tmp_path, name, message):
    (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match=message):
        find_recordings([tmp_path / name] if name else [])


def test_what_cannot_be_read_is_returned_with_a_reason_and_other_kinds_are_counted(tmp_path, capsys):
    paths = files(tmp_path, "x/a.wav", "x/b.xyz", "x/c.XYZ", "x/deep/d.txt")
    (tmp_path / "x" / "elsewhere").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "x" / "pipe.wav")
    root, found, refused = find_recordings([tmp_path / "x"])
    assert (root, found) == (tmp_path / "x", paths[:1])
    assert [path.name for path, _ in refused] == ["elsewhere", "pipe.wav"]
    assert "2 .xyz files, 1 .txt file were not read" in capsys.readouterr().err
    paths[0].unlink()
    assert len(find_recordings([tmp_path / "x"]).refused) == 2  # they end in the ledger, as without any recording
    for path, _ in refused:
        path.unlink()
    with pytest.raises(UserError, match=r"No recordings.*2 \.xyz files"):
        find_recordings([tmp_path / "x"])


def test_a_folder_that_cannot_be_read_does_not_stop_the_others(tmp_path, monkeypatch):
    paths = files(tmp_path, "x/a.wav", "locked/b.wav")
    scandir = os.scandir

    def denied(path):  # the tests may run as root, who reads everything
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    locked = (tmp_path / "locked", "the folder cannot be read (Permission denied).")
    assert find_recordings([tmp_path / "locked", tmp_path / "x"]) == (tmp_path, paths[:1], [locked])
    assert find_recordings([tmp_path]) == (tmp_path, paths[:1], [locked])
    assert find_recordings([tmp_path / "locked"]).refused == [locked]


def test_extension_is_kept_where_names_differ_in_nothing_else():
    names = ("x/a.wav", "x/A.flac", "y/a.wav", "x/b.c.wav")
    stems = table_stems([Path("/r") / name for name in names], Path("/r"))
    assert [stems[Path("/r") / name] for name in names] == ["a.wav", "A.flac", "a", "b.c"]


def test_long_names_are_shortened_and_stay_different():
    paths = [Path("/r") / f"{'é' * 120}{i}.wav" for i in range(2)]
    stems = list(table_stems(paths, Path("/r")).values())
    assert len(set(stems)) == 2 and all(len(stem.encode()) <= 180 and stem.startswith("é" * 80) for stem in stems)
