"""`birdnet-fs analyze`: tables and ledger of recordings."""

import shutil
from pathlib import Path

import pytest
from command_line import birdnet_fs
from typer.testing import CliRunner

from birdnet_fs.cli.main import app
from birdnet_fs.core.errors import UserError


def test_damaged_recordings_are_listed_in_the_ledger(aviary: Path) -> None:
    (aviary / "field").mkdir()
    for file in sorted((aviary / "recordings" / "audio").iterdir())[:2]:
        shutil.copy(file, aviary / "field")
    (aviary / "field" / "broken.wav").write_bytes(b"<html>")
    birdnet_fs(
        "analyze", "run", "field", "-o", "tables", "--rtype", "csv,raven,audacity", "--min_conf", "0.01", cwd=aviary
    )
    ledger = (aviary / "tables" / "ledger.csv").read_text()
    assert "broken.wav" in ledger
    assert "quarantined" in ledger
    assert len(list((aviary / "tables").rglob("*.selection.table.txt"))) == 2


def test_tables_of_detections_are_not_read_as_labels(aviary: Path) -> None:
    folder = aviary / "beside"
    for label in ("Tremula lenta", "Sibilus aureus"):
        (folder / label).mkdir(parents=True)
        shutil.copy(next((aviary / "recordings" / "audio").iterdir()), folder / label / "a.flac")
    birdnet_fs("analyze", "run", "beside", "-o", "beside", "--rtype", "raven,csv,audacity", "--top_n", "1", cwd=aviary)
    listed = birdnet_fs("manifest", "beside", "-o", "manifest.csv", cwd=aviary)
    assert "folders" in listed.stdout
    assert "Sibilus aureus" in listed.stdout


def test_unknown_formats_are_refused(untrained: Path, tmp_path: Path) -> None:
    arguments = ["analyze", str(untrained), str(tmp_path), "-o", str(tmp_path / "out"), "--rtype", "csv,ravn"]
    with pytest.raises(UserError, match="ravn"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
