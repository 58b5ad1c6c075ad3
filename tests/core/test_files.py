"""Atomic files and folders, and checks of output paths."""

import json
import os
from pathlib import Path

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_folder, atomic_path, check_output, sha256, write_json, write_text


def test_atomic_path_keeps_the_previous_file_on_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(RuntimeError), atomic_path(path) as part:
        part.write_text("half")
        raise RuntimeError
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == {"x": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("there", [False, True])
def test_atomic_folder_keeps_the_previous_folder_on_errors(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "out"
    if there:
        folder.mkdir()
        (folder / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder) as part:
        (part / "new").write_text("half")
        raise KeyboardInterrupt
    assert sorted(os.listdir(tmp_path)) == (["out"] if there else [])
    with atomic_folder(folder) as part:
        (part / "new").write_text("whole")
    assert os.listdir(folder) == ["new"]
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("place", ["file", "file/below", "file/below/it"])
def test_check_output_refuses_folders_below_files(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file is a file\. Give another folder"):
        check_output(tmp_path / place)
    check_output(tmp_path)
    check_output(tmp_path / "new" / "deeper")
    assert os.listdir(tmp_path) == ["file"]


def test_write_text_refuses_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        write_text(tmp_path, "lost")
    assert os.listdir(tmp_path) == []


def test_write_text_writes_utf8_with_unix_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Grünspecht\n")
    assert (tmp_path / "a.txt").read_bytes() == "Grünspecht\n".encode()
    assert sha256(tmp_path / "a.txt") == __import__("hashlib").sha256("Grünspecht\n".encode()).hexdigest()
