"""history.csv: a row for every finished epoch, on disk as soon as the epoch is.

Columns: epoch (from 1), learning_rate, seconds (since the start), and for each stage (train, val; test stands in
metrics.json) {stage}_loss, _acc, _precision, _recall, _f1 as Lightning names them, val_macro_auroc, and
{stage}/per_class_accuracy/{class} as ANIMAL-SPOT's fork does. Precision, recall and F1 are means over the classes;
the mean of the classes' accuracies is the recall.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.core.files import atomic_path

HISTORY = "history.csv"


def accuracy_columns(stage: str, classes: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Columns of the accuracy of each class: the share of its rows that are called so.

    >>> accuracy_columns("val", ["wren"], [0.5])
    {'val/per_class_accuracy/wren': 0.5}
    """
    return {f"{stage}/per_class_accuracy/{name}": float(v) for name, v in zip(classes, values, strict=True)}


def write_history(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write history.csv, whole or not at all; the columns of single classes come last."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, sorted(names, key=lambda name: "/" in name), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_history(path: Path | str) -> list[dict[str, float]]:
    """history.csv as one dict of numbers per epoch; cells that are no finite number are left out."""
    if not Path(path).is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return [{k: v for k, cell in row.items() if (v := _number(cell)) is not None} for row in csv.DictReader(file)]


def _number(cell: Any) -> float | None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


Row = dict[str, float]


Weights = dict[str, np.ndarray]
