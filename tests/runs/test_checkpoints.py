"""Which epochs are kept as checkpoints."""

import math
from pathlib import Path

import pytest

from birdnet_fs.runs.checkpoints import Checkpoints


def test_checkpoints_are_the_last_and_the_best_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def save(folder: Path, weights: dict, history: list) -> None:
        saved.append(folder.name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "epoch").unlink(missing_ok=True)  # a run folder is replaced as a whole
        (folder / "epoch").write_text(str(history[-1]["epoch"]))

    saved: list[str] = []
    checkpoints, history = Checkpoints(tmp_path, 2, "val_acc", save), []
    expected = [
        {"last": "1", "epoch_001_val_acc_0.5000": "1"},
        {"last": "2", "epoch_001_val_acc_0.5000": "1"},  # not a number is not among the best
        {"last": "3", "epoch_001_val_acc_0.5000": "1", "epoch_003_val_acc_0.5000": "3"},
        {"last": "4", "epoch_001_val_acc_0.5000": "1", "epoch_003_val_acc_0.5000": "3"},  # of equal ones the earlier
        {"last": "5", "epoch_001_val_acc_0.5000": "1", "epoch_005_val_acc_0.8000": "5"},
        {"last": "6", "epoch_001_val_acc_0.5000": "1", "epoch_005_val_acc_0.8000": "5"},
    ]
    for epoch, (value, folders) in enumerate(zip([0.5, math.nan, 0.5, 0.5, 0.8, 0.1], expected, strict=True), 1):
        history.append({"epoch": epoch, "val_acc": value})
        checkpoints.add(history, {})
        assert {path.parent.name: path.read_text() for path in tmp_path.glob("*/epoch")} == folders
    assert saved == ["last"] * 6  # each epoch is computed and written once
    assert len(list(tmp_path.iterdir())) == 3  # nothing half-written is left
    assert capsys.readouterr().err.splitlines() == [
        f"epoch 1: val_acc 0.5000 kept in {tmp_path / 'epoch_001_val_acc_0.5000'}",
        f"epoch 3: val_acc 0.5000 kept in {tmp_path / 'epoch_003_val_acc_0.5000'}",
        f"epoch 5: val_acc 0.8000 kept in {tmp_path / 'epoch_005_val_acc_0.8000'}, instead of epoch_003_val_acc_0.5000",
    ]
