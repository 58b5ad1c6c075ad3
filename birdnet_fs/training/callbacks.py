"""Files written after every epoch: history.csv and checkpoints, and metrics for TensorBoard and MLflow."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from birdnet_fs import schema
from birdnet_fs.core.progress import say
from birdnet_fs.runs.checkpoints import Checkpoints, Save
from birdnet_fs.runs.history import HISTORY, Row, Weights, write_history
from birdnet_fs.runs.run import CHECKPOINTS, remove_run
from birdnet_fs.training.tracking.tracker import Tracking


class EpochCallbacks:
    """Write history, checkpoints and tracked metrics after every epoch.

    An error of the file system is reported once and does not stop the training, whose weights are in memory.

    Args:
        output: The run folder; an earlier run there is removed after the first finished epoch.
        experiment: The resolved settings.
        monitor: History column used to rank checkpoints; larger is better.
        save: Writes a run.
    """

    def __init__(self, output: Path, experiment: schema.Experiment, monitor: str, save: Save) -> None:
        self.output, self.tracking = output, Tracking.start(experiment, output)
        n_best = experiment.training.checkpoints.n_best
        self._checkpoints = Checkpoints(output / CHECKPOINTS, n_best, monitor, save) if n_best else None
        self._failed = False

    def after_epoch(self, history: Sequence[Row], weights: Weights) -> None:
        """Write the epoch that has just finished.

        Args:
            history: Rows of all finished epochs.
            weights: Present weights by variable path.
        """
        try:
            if len(history) == 1:  # files of an earlier run do not belong to these weights
                remove_run(self.output)
                shutil.rmtree(self.output / CHECKPOINTS, ignore_errors=True)
            write_history(self.output / HISTORY, history)
            if self._checkpoints:
                self._checkpoints.add(history, weights)
        except OSError as error:
            if not self._failed:
                say(f"Epoch {len(history)} could not be written to {self.output} ({error}); training continues.")
            self._failed = True
        self.tracking.epoch(history[-1])
