"""What cannot be used is in the ledger: rows and files counted by the operating system are all accounted for."""

import os

import pytest
from audio_files import chirps, write

from birdnet_fs.audio.files import EXTENSIONS
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import read_manifest, write_manifest
from birdnet_fs.schema import Data

AUDIO = tuple(extension for extensions in EXTENSIONS.values() for extension in extensions)


@pytest.fixture
def folder(tmp_path):
    """Recordings of two classes among everything that lies in such folders."""
    root = tmp_path / "data"
    for name in ("wren/a.wav", "wren/deep/b[1].flac", "robin/c.wav", "robin/d.ogg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write(root / name, chirps(1, 8000), 8000)
    os.rename(root / "wren" / "a.wav", root / "wren" / os.fsdecode(b"a\r caf\xe9.wav"))
    (root / "robin" / "empty.wav").touch()
    (root / "robin" / "page.mp3").write_bytes(b"<html>404</html>")
    (root / "robin" / "cut.au").write_bytes(b".snd" + bytes(3))
    (root / "robin" / "lost.wav").symlink_to("nowhere")
    (root / "robin" / "up").symlink_to("..")
    os.mkfifo(root / "robin" / "pipe.wav")
    for i in range(3):
        (root / "robin" / f"{i}.xyz").touch()
    return root


def test_every_file_of_a_folder_ends_in_the_ledger_or_is_counted_by_kind(folder, tmp_path):
    found = read_manifest(Data(root=str(folder)), check=True)
    n_audio, n_others, n_links = 0, 0, 0
    for here, folders, names in os.walk(folder):
        n_links += sum(os.path.islink(os.path.join(here, name)) for name in folders)
        n_audio += sum(name.endswith(AUDIO) for name in names)
        n_others += sum(not name.endswith(AUDIO) for name in names)
    assert (n_audio, n_others, n_links) == (9, 3, 1)
    assert sum(found.ledger.counts().values()) == n_audio + n_links
    assert found.ledger.counts() == {"ok": 4, "partial": 0, "quarantined": 6}
    assert any("3 .xyz files were not read" in note for note in found.notes)
    write_manifest(found, tmp_path / "m.csv")
    again = read_manifest(Data(root=str(tmp_path), table="m.csv"))
    assert {clip.path for clip in again.clips} == {clip.path for clip in found.clips} and len(again.ledger.rows) == 4


def test_a_folder_that_cannot_be_read_is_a_row_and_the_others_are_used(folder, monkeypatch):
    scandir = os.scandir

    def denied(path):  # the tests may run as root, who reads everything
        if os.fspath(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    found = read_manifest(Data(root=str(folder)))
    [row] = [row for row in found.ledger.rows if row.path.endswith("deep")]
    assert row.status == "quarantined" and "Permission denied" in row.reason and len(found.clips) == 5


def test_a_folder_without_recordings_says_what_is_there(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.xyz").touch()
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"1 \.xyz file was not read.*gone: this link points to nowhere"):
        read_manifest(Data(root=str(tmp_path)))
