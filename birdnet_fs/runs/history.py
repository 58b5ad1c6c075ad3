"""history.csv: one row per finished epoch, written at the end of the epoch.

Columns: epoch (from 1), learning_rate, seconds (since the start), gpu_peak_gb (on a GPU: most memory that torch held
during the epoch, in 1e9 bytes), and for each stage (train, val; test is in metrics.json) {stage}_loss, _acc,
_precision, _recall, _f1 as Lightning names them, val_macro_auroc, and {stage}/per_class_accuracy/{class} as
ANIMAL-SPOT's fork names them. Precision, recall and F1 are means over the classes; the mean accuracy of the classes is
the recall.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.core.csv_files import csv_dict_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import escaped

HISTORY = "history.csv"
Row = dict[str, float]  # one epoch
Weights = dict[str, np.ndarray]  # arrays by Keras variable path


def accuracy_columns(stage: str, classes: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Columns of the accuracy of each class: the share of its rows that are predicted as it.

    Args:
        stage: "train", "val" or "test".
        classes: Class names.
        values: One accuracy per class, 0..1.

    Returns:
        One number per column name.

    >>> accuracy_columns("val", ["wren"], [0.5])
    {'val/per_class_accuracy/wren': 0.5}
    """
    return {f"{stage}/per_class_accuracy/{name}": float(v) for name, v in zip(classes, values, strict=True)}


def write_history(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write history.csv, whole or not at all; columns of single classes come last."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv_dict_writer(file, sorted(names, key=lambda name: "/" in name))
        writer.writeheader()
        writer.writerows(rows)


def read_history(path: Path | str) -> list[dict[str, float]]:
    """Read history.csv: one dict per epoch, [] when there is no file; cells without a finite number are left out.

    Args:
        path: The file.

    Returns:
        Number by column for each epoch.

    Raises:
        UserError: The file is not UTF-8 text, or no CSV.
    """
    if not Path(path).is_file():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            return [{k: v for k, cell in row.items() if (v := _number(cell)) is not None} for row in rows]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{escaped(path)} is damaged ({error}); delete it and evaluate again.") from None


def _number(cell: Any) -> float | None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
