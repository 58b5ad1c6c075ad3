"""`birdnet-fs pseudo-label`: the table of windows, and wrong arguments."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from birdnet_fs.cli.main import app
from birdnet_fs.core.errors import UserError


def pseudo_label(*arguments: object) -> str:
    return CliRunner().invoke(app, ["pseudo-label", *map(str, arguments)], catch_exceptions=False).stdout


def test_windows_are_written_with_probabilities(untrained: Path, tmp_path: Path) -> None:
    (tmp_path / "field").mkdir()
    soundfile.write(tmp_path / "field" / "a.wav", np.random.default_rng(0).normal(0, 0.1, 24_000), 8_000)
    out = pseudo_label(untrained, tmp_path / "field", "-o", tmp_path / "out")
    assert f"train on it with pseudo_labels.table={tmp_path / 'out'}" in out
    with open(tmp_path / "out" / "pseudo.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 and {"a", "b"} <= set(rows[0])


def test_wrong_arguments_are_refused(untrained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a setting of the training; add --rounds 1"):
        pseudo_label(untrained, tmp_path, "training.epochs=1", "-o", tmp_path / "out")
    (tmp_path / "a.tflite").touch()
    with pytest.raises(UserError, match="is not a run; give a run folder"):
        pseudo_label(tmp_path / "a.tflite", tmp_path, "--rounds", 1, "-o", tmp_path / "out")
