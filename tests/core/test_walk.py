"""Listing of folders: each entry is a file, refused with a reason, or hidden; nothing blocks and nothing is lost."""

import os
from pathlib import Path

import pytest

from birdnet_fs.core import walk
from birdnet_fs.core.walk import list_files


@pytest.fixture
def folder(tmp_path):
    top = tmp_path / "top [x]"
    (top / "deep" / os.fsdecode(b"caf\xe9\r")).mkdir(parents=True)
    for name in ("a.wav", "deep/b[1].txt", os.fsdecode(b"deep/caf\xe9\r/c\n.wav"), ".hidden", "no extension"):
        (top / name).touch()
    (top / ".git").mkdir()
    (top / ".git" / "in.wav").touch()
    os.mkfifo(top / "pipe.wav")
    for name, target in (
        ("to file.wav", "a.wav"),
        ("gone.wav", "nothing"),
        ("up", ".."),
        ("self", "self"),
        ("p", "pipe.wav"),
    ):
        (top / name).symlink_to(target)
    return top


def test_every_entry_ends_in_one_list(folder):
    listed = list_files(folder)
    names = {os.path.relpath(path, folder) for path in listed.files}
    assert names == {"a.wav", "deep/b[1].txt", os.fsdecode(b"deep/caf\xe9\r/c\n.wav"), "no extension", "to file.wav"}
    reasons = {os.path.relpath(path, folder): reason for path, reason in listed.refused}
    assert {name: reason.split("(")[0].split(",")[0] for name, reason in reasons.items()} == {
        "pipe.wav": "this is a device or a pipe",
        "p": "this is a link to a device or a pipe",
        "gone.wav": "this link points to nothing",
        "up": "this is a link to a folder",
        "self": "the link cannot be followed ",
    }
    assert [os.path.basename(path) for path in listed.hidden] == [".git", ".hidden"]
    entries = 0  # counted by os.walk, which lists links to folders among the folders
    for here, folders, names in os.walk(folder):
        if os.sep + ".git" not in here:
            entries += len(names) + sum(os.path.islink(os.path.join(here, each)) for each in folders)
    assert len(listed.files) + len(listed.refused) + len(listed.hidden) == entries + 1  # .git itself


def test_a_folder_that_cannot_be_read_is_refused_and_the_others_are_listed(folder, monkeypatch):
    scandir = os.scandir

    def denied(path):  # the tests may run as root, who reads everything
        if os.fspath(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(walk.os, "scandir", denied)
    listed = list_files(folder)
    assert (str(folder / "deep"), "the folder cannot be read (Permission denied).") in listed.refused
    assert str(folder / "a.wav") in listed.files
    with pytest.raises(OSError):
        list_files(folder / "deep")


def test_deep_and_long_paths_end_without_an_error(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(30):  # together beyond PATH_MAX, which a path given to scandir must not exceed
        os.mkdir("n" * 200, dir_fd=here)
        below = os.open("n" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    listed = list_files(tmp_path)
    assert listed.files == () and "cannot be read" in listed.refused[0][1] and Path(listed.refused[0][0]).parts
