"""Files written after every epoch: history.csv and checkpoints, and metrics for TensorBoard and MLflow."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from birdnet_fs import schema
from birdnet_fs.core.files import describe_os_error
from birdnet_fs.core.folders import link_tree
from birdnet_fs.core.progress import say
from birdnet_fs.runs.checkpoints import LAST, Checkpoints, Save
from birdnet_fs.runs.history import HISTORY, Row, Weights, write_history
from birdnet_fs.runs.run import CHECKPOINTS, CONFIG, INTERRUPTED, UNFINISHED
from birdnet_fs.training.tracking import tensorboard
from birdnet_fs.training.tracking.tracker import Tracking

_ADDED = (CHECKPOINTS, tensorboard.FOLDER)  # folders that a finished run takes over from the training


def progress_folder(output: Path, *, resumed: bool = False) -> Path:
    """Return where a training writes what it has until its run is whole.

    Args:
        output: The run folder.
        resumed: Whether an earlier process has begun the training, which then goes on in the same place. Default:
            False.

    Returns:
        The run folder itself; `unfinished` in it when it holds a run, or weights that another training has left, which
        stay until the new run replaces them.
    """
    if resumed and not (output / CONFIG).is_file() and not (output / UNFINISHED / HISTORY).is_file():
        return output
    kept = (output, output / CHECKPOINTS / LAST, output / INTERRUPTED)
    return output / UNFINISHED if any((folder / CONFIG).is_file() for folder in kept) else output


class EpochCallbacks:
    """Write history, checkpoints and tracked metrics after every epoch.

    An error of the file system is reported once and does not stop the training, whose weights are in memory.

    Args:
        output: The run folder.
        progress: Folder of history and checkpoints until the run is whole, from `progress_folder`.
        experiment: The resolved settings.
        monitor: History column used to rank checkpoints; larger is better.
        save: Writes a run.
        history: Rows of the epochs that an earlier process has finished; trackers, which begin anew, get them first.
            Default: (), none.
    """

    def __init__(
        self,
        output: Path,
        progress: Path,
        experiment: schema.Experiment,
        monitor: str,
        save: Save,
        history: Sequence[Row] = (),
    ) -> None:
        if history:
            shutil.rmtree(progress / tensorboard.FOLDER, ignore_errors=True)
        self.progress, self.tracking = progress, Tracking.start(experiment, output, progress)
        n_best = experiment.training.checkpoints.n_best
        self._checkpoints = Checkpoints(progress / CHECKPOINTS, n_best, monitor, save) if n_best else None
        self._failed = False
        if history and self._checkpoints:
            self._checkpoints.resume(history)
        for row in history:
            self.tracking.epoch(row)

    def after_epoch(self, history: Sequence[Row], weights: Weights) -> None:
        """Write the epoch that has just finished.

        Args:
            history: Rows of all finished epochs.
            weights: Present weights by variable path.
        """
        try:
            if len(history) == 1:  # of an earlier training that was killed
                for name in _ADDED:
                    shutil.rmtree(self.progress / name, ignore_errors=True)
            write_history(self.progress / HISTORY, history)
            if self._checkpoints:
                self._checkpoints.add(history, weights)
        except OSError as error:
            if not self._failed:
                reason = describe_os_error(error)
                say(f"Epoch {len(history)} could not be written to {self.progress} ({reason}); training continues.")
            self._failed = True
        self.tracking.epoch(history[-1])

    def add_to(self, folder: Path) -> None:
        """Add checkpoints and tracked metrics to the folder of the finished run."""
        for name in _ADDED:
            if (self.progress / name).is_dir():
                link_tree(self.progress / name, folder / name)
        self.tracking.write_locations(folder)
