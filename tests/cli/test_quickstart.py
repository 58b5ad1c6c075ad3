"""`birdnet-fs quickstart`: the complete workflow on synthetic recordings."""

import json
from pathlib import Path

import pytest
from command_line import in_new_process

from birdnet_fs.cli.quickstart import quickstart
from birdnet_fs.core.errors import UserError


def test_quickstart_writes_report_artifact_and_tables(tmp_path: Path) -> None:
    result = in_new_process("quickstart", "--quick", cwd=tmp_path)
    folder = tmp_path / "quickstart"
    assert "report.html" in result.stdout
    assert json.loads((folder / "artifact" / "parity.json").read_text())
    assert list((folder / "artifact").glob("*.tflite"))
    assert list((folder / "artifact").glob("*_Labels.txt"))
    assert list((folder / "analysis").rglob("*.selection.table.txt"))


def test_other_folders_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and was not written by quickstart"):
        quickstart(tmp_path)
