"""Atomic files and folders, and checks of output paths."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from killed import small_disk

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import (
    atomic_path,
    check_output,
    describe_os_error,
    naming_path,
    no_room,
    sha256,
    write_json,
    write_text,
)
from birdnet_fs.core.leftovers import PART, temporary_name


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


def test_errors_name_the_file_that_was_asked_for(tmp_path: Path) -> None:
    """A full disk names no file, or a temporary one, and numpy's own error has no number either."""
    path = tmp_path / "table.csv"
    for raised in (
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.ENOSPC, "No space left on device", str(tmp_path / temporary_name(PART) / "x.csv")),
        OSError("80000 requested and 7680 written"),
    ):
        with pytest.raises(OSError) as caught, atomic_path(path):
            raise raised
        assert describe_os_error(caught.value) == (
            f"No space left on device: {path}; free disk space or choose another folder, then give the same command "
            "again"
        )
    other = FileNotFoundError(errno.ENOENT, "No such file or directory", "recording.wav")
    with pytest.raises(FileNotFoundError) as missing, naming_path(path):
        raise other
    assert describe_os_error(missing.value) == "No such file or directory: recording.wav"
    assert describe_os_error(OSError("odd")) == "odd"
    assert os.listdir(tmp_path) == []


def test_numpy_on_a_full_disk_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as resize:
        resize(64)
        with pytest.raises(OSError) as caught, atomic_path(tmp_path / "disk" / "x.npy") as part:
            np.save(part, np.ones(100_000))
        assert no_room(caught.value) and caught.value.filename == str(tmp_path / "disk" / "x.npy")
        assert os.listdir(tmp_path / "disk") == []
