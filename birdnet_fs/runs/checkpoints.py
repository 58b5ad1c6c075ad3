"""Checkpoints of a training: the last epoch and the best ones, each a run folder that every verb reads.

`checkpoints/last` and `checkpoints/epoch_{epoch:03d}_{column}_{value:.4f}`, the names of
https://github.com/nnayz/uhh_project_dsai; here they are safetensors and JSON, nothing pickled.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from birdnet_fs.core.files import atomic_folder
from birdnet_fs.runs.history import Row, Weights

LAST = "last"
Save = Callable[[Path, Weights, Sequence[Row]], Any]  # writes a run into a folder


class Checkpoints:
    """Run folders of the last and of the `n_best` best epochs.

    Args:
        folder: Where they go.
        n_best: How many of the best to keep; of equal ones the earlier.
        column: Of the history, that they are best by; higher is better.
        save: Writes a run.
    """

    def __init__(self, folder: Path, n_best: int, column: str, save: Save) -> None:
        self.folder, self.n_best, self.column, self.save = folder, n_best, column, save
        self._kept: list[tuple[float, Path]] = []  # best first

    def add(self, history: Sequence[Row], weights: Weights) -> None:
        """Keep the epoch that has just finished; each folder is whole or absent, and a better one is there before the
        worse goes.
        """
        self._write(LAST, history, weights)
        value = history[-1].get(self.column, math.nan)
        if math.isnan(value) or (len(self._kept) == self.n_best and value <= self._kept[-1][0]):
            return
        path = self._write(f"epoch_{int(history[-1]['epoch']):03d}_{self.column}_{value:.4f}", history, weights)
        self._kept = sorted([*self._kept, (value, path)], key=lambda kept: -kept[0])
        for _, worse in self._kept[self.n_best :]:
            shutil.rmtree(worse)
        self._kept = self._kept[: self.n_best]

    def _write(self, name: str, history: Sequence[Row], weights: Weights) -> Path:
        with atomic_folder(self.folder / name) as part:
            self.save(part, weights, history)
        return self.folder / name
