"""Checkpoints of a training: the last epoch and the best ones, each a run folder that every verb reads.

They are `checkpoints/last` and `checkpoints/epoch_{epoch:03d}_{monitor}_{value:.4f}`, the names of
https://github.com/nnayz/uhh_project_dsai; here they are safetensors and JSON, nothing is pickled.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from birdnet_fs.core.folders import atomic_folder, link_tree
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.runs.history import Row, Weights

LAST = "last"
Save = Callable[[Path, Weights, Sequence[Row]], Any]  # writes a run into a folder


class Checkpoints:
    """Run folders of the last and of the `n_best` best epochs.

    Args:
        folder: Folder of the checkpoints.
        n_best: Number of best epochs to keep, 0 or more; of equal ones the earlier is kept.
        monitor: History column used to rank epochs; larger is better.
        save: Writes a run into a folder, whole or not at all.
    """

    def __init__(self, folder: Path, n_best: int, monitor: str, save: Save) -> None:
        self.folder, self.n_best, self.monitor, self.save = folder, n_best, monitor, save
        self._best: list[tuple[float, Path]] = []  # best first

    def add(self, history: Sequence[Row], weights: Weights) -> None:
        """Write the epoch that has just finished.

        A better epoch is written before a worse one is removed, and a line names both.

        Args:
            history: One row per epoch so far.
            weights: Arrays by Keras variable path.
        """
        self.save(self.folder / LAST, weights, history)
        value = history[-1].get(self.monitor, math.nan)
        if math.isnan(value) or (len(self._best) == self.n_best and value <= self._best[-1][0]):
            return
        path = self.folder / self._name(history[-1])
        with atomic_folder(path) as part:
            for entry in (self.folder / LAST).iterdir():  # of the same epoch, so nothing is computed again
                link_tree(entry, part / entry.name)
        self._best = sorted([*self._best, (value, path)], key=lambda best: -best[0])
        replaced = [worse for _, worse in self._best[self.n_best :]]
        for worse in replaced:
            shutil.rmtree(worse)
        self._best = self._best[: self.n_best]
        instead = f", instead of {', '.join(worse.name for worse in replaced)}" if replaced else ""
        say(f"epoch {len(history)}: {self.monitor} {value:.4f} kept in {escaped(path)}{instead}")

    def resume(self, history: Sequence[Row]) -> None:
        """Rank the checkpoints of earlier epochs as they were ranked when they were written.

        Args:
            history: Rows of the epochs that are finished; checkpoints that are no longer there are left out.
        """
        ranked: list[tuple[float, Path]] = []
        for row in history:
            value = row.get(self.monitor, math.nan)
            if not math.isnan(value) and (len(ranked) < self.n_best or value > ranked[-1][0]):
                ranked = sorted([*ranked, (value, self.folder / self._name(row))], key=lambda best: -best[0])
                ranked = ranked[: self.n_best]
        self._best = [(value, path) for value, path in ranked if path.is_dir()]

    def _name(self, row: Row) -> str:
        return f"epoch_{int(row['epoch']):03d}_{self.monitor}_{row[self.monitor]:.4f}"
