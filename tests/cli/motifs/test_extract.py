"""`birdnet-fs motifs extract` as a user runs it, and the help and errors of a group of verbs."""

import json
import sys
from pathlib import Path

import mined_recordings
import pytest

from birdnet_fs.cli.main import main
from birdnet_fs.core import renamed


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["birdnet-fs", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_extract_writes_a_folder_for_each_recording(tmp_path: Path, monkeypatch, capsys) -> None:
    mined_recordings.write_recordings(tmp_path / "in")
    command = ["motifs", "extract", tmp_path / "in", "-o", tmp_path / "out", "--feature", "logmel"]
    command += ["--cens-sr", 50, "--mp-window", 30]
    assert run(monkeypatch, *command) == 0
    printed = capsys.readouterr()
    assert "4 ok, 0 partial, 2 without a motif" in printed.out and "it is silent" in printed.err
    assert json.loads((tmp_path / "out" / "owl" / "0" / "metadata.json").read_text())["label"] == "owl"
    assert run(monkeypatch, *command) == 0 and "6 of 6 recordings are mined already" in capsys.readouterr().err
    silent = ["motifs", "extract", tmp_path / "in" / "wren" / "silent.wav", "-o", tmp_path / "none"]
    assert run(monkeypatch, *silent, "--feature", "logmel") == 1
    assert run(monkeypatch, "motifs", "extract", tmp_path / "gone", "-o", tmp_path / "out") == 2


def test_a_group_shows_its_verbs_and_refuses_others(monkeypatch, capsys) -> None:
    assert run(monkeypatch, "motifs") == 0 and "extract" in capsys.readouterr().out
    assert run(monkeypatch, "motifs", "extrakt") == 2
    assert "See birdnet-fs motifs --help" in capsys.readouterr().err
    monkeypatch.setitem(renamed.VERBS, "motifs mine", "motifs extract")
    monkeypatch.setitem(renamed.OPTIONS, "motifs extract --cens", "motifs extract --cens-sr")
    assert run(monkeypatch, "motifs", "mine") == 2
    assert "The verb `motifs mine` was renamed; use `birdnet-fs motifs extract`" in capsys.readouterr().err
    assert run(monkeypatch, "motifs", "extract", "--cens", "3") == 2
    said = capsys.readouterr().err
    assert "The option --cens of `birdnet-fs motifs extract` was renamed; use --cens-sr" in said
