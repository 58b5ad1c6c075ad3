"""history.csv: columns, order, and what is read back."""

import math
from pathlib import Path

from birdnet_fs.runs.history import accuracy_columns, read_history, write_history


def test_history_keeps_finite_numbers_and_puts_classes_last(tmp_path: Path) -> None:
    rows = [{"epoch": 1, **accuracy_columns("val", ["a, b"], [0.5]), "x": math.nan}, {"epoch": 2, "y": 3.0}]
    write_history(tmp_path / "history.csv", rows)
    assert (tmp_path / "history.csv").read_text().splitlines()[0] == 'epoch,x,y,"val/per_class_accuracy/a, b"'
    assert read_history(tmp_path / "history.csv") == [
        {"epoch": 1.0, "val/per_class_accuracy/a, b": 0.5},
        {"epoch": 2.0, "y": 3.0},
    ]
    assert read_history(tmp_path / "none.csv") == []
