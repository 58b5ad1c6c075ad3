"""`birdnet-fs motifs consolidate`, `extract-top-motif` and `motif-track` as a user runs them."""

import sys
from pathlib import Path

import mined_recordings
import pytest

from birdnet_fs.cli.main import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["birdnet-fs", "motifs", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_verbs_of_a_mined_folder(tmp_path: Path, monkeypatch, capsys) -> None:
    folder = mined_recordings.mined(tmp_path)
    assert run(monkeypatch, "consolidate", folder) == 0
    assert (folder / "motif-consolidated.parquet").is_file() and "6 recordings" in capsys.readouterr().out
    assert run(monkeypatch, "extract-top-motif", folder, "--output", tmp_path / "top") == 0
    assert "4 recordings, 2 without clips" in capsys.readouterr().out
    assert (tmp_path / "top" / "wren" / "1" / "motif.0.ogg").is_file()
    track = ["motif-track", "--input", folder, "--index", "discord_0", tmp_path / "d.wav"]
    assert run(monkeypatch, *track) == 0 and (tmp_path / "d.wav").is_file()
    assert run(monkeypatch, "motif-track", "--input", tmp_path / "gone", tmp_path / "e.wav") == 2
    assert run(monkeypatch, "consolidate", folder, "-o", tmp_path) == 2
    assert "an output file was expected" in capsys.readouterr().err.lower()


def test_pages_are_written_for_recordings_and_classes(tmp_path: Path, monkeypatch, capsys) -> None:
    folder = mined_recordings.mined(tmp_path)
    assert run(monkeypatch, "pages", folder, "-o", tmp_path / "pages", "--limit", 2) == 0
    assert "2 recordings, 2 classes" in capsys.readouterr().out
    assert (tmp_path / "pages" / "classes" / "owl.html").is_file()
    assert run(monkeypatch, "pages", folder, "-o", tmp_path / "pages", "--n-motifs", 0) == 2
    assert "--n-motifs must be 1 or more" in capsys.readouterr().err
