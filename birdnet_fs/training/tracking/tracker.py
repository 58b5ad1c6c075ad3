"""Send training metrics to TensorBoard, MLflow or Weights & Biases, as chosen by `training.track`.

An error of a tracker is reported once and never stops a training. A finished run keeps the locations in
`tracking.json`, so that the metrics of its test can be added later.
"""

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.progress import say
from birdnet_fs.runs.history import accuracy_columns
from birdnet_fs.training.tracking.mlflow import MLflow
from birdnet_fs.training.tracking.tensorboard import TensorBoard
from birdnet_fs.training.tracking.wandb import WandB

TRACKING = "tracking.json"
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
_NEEDS = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",)}
_EXTRAS = {"tensorboard": "track", "mlflow": "track", "wandb": "wandb"}


class Tracker(Protocol):
    """Destination of training metrics."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """Send the history row of an epoch."""

    def report(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Send the metrics of the test after the last epoch."""

    def close(self, status: str) -> None:
        """End the tracking with the status FINISHED, FAILED or KILLED."""

    def location(self) -> dict[str, str]:
        """Return the arguments that open the same destination again."""


class Tracking:
    """All trackers of one training; the end of a `with` block closes them.

    A tracker that raises an error is reported and not used again.

    Args:
        makers: Name of a tracker -> function that opens it.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Tracker]]) -> None:
        self._trackers: dict[str, Tracker] = {}
        for kind, make in makers.items():
            self._guarded(kind, partial(self._open, kind, make))

    @classmethod
    def start(cls, experiment: schema.Experiment, output: Path, progress: Path) -> "Tracking":
        """Open the trackers of a training.

        Args:
            experiment: The resolved settings.
            output: The run folder.
            progress: Folder of the training until its run is whole; files of TensorBoard are written there.

        Returns:
            The trackers that `training.track` names.
        """
        makers: dict[str, Callable[[], Tracker]] = {
            "tensorboard": lambda: TensorBoard.start(experiment, progress),
            "mlflow": lambda: MLflow.start(experiment, output),
            "wandb": lambda: WandB.start(experiment, output),
        }
        return cls({kind: makers[kind] for kind in _kinds(experiment.training)})

    @classmethod
    def of_run(cls, output: Path) -> "Tracking":
        """Open the trackers of a finished run; without `tracking.json` there are none."""
        if not (output / TRACKING).is_file():
            return cls({})
        try:
            places: dict[str, Any] = read_json(output / TRACKING, "evaluate again without it")
            makers: dict[str, Callable[[], Tracker]] = {
                "tensorboard": lambda: TensorBoard(output),
                "mlflow": lambda: MLflow.of_run(output, **places["mlflow"]),
                "wandb": lambda: WandB(output, str(places["wandb"]["run_id"])),
            }
            return cls({kind: makers[kind] for kind in places})
        except (UserError, KeyError, TypeError):
            say(f"{output / TRACKING} is damaged; the metrics of the test are written to metrics.json only.")
            return cls({})

    def epoch(self, row: Mapping[str, float]) -> None:
        """Send the row of an epoch."""
        self._each(lambda tracker: tracker.epoch(row))

    def report(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Send the metrics of the test."""
        self._each(lambda tracker: tracker.report(numbers, epoch))

    def close(self, status: str) -> None:
        """End the tracking with the status FINISHED, FAILED or KILLED."""
        self._each(lambda tracker: tracker.close(status))

    def __enter__(self) -> "Tracking":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(FINISHED if kind is None else KILLED if issubclass(kind, KeyboardInterrupt) else FAILED)

    def write_locations(self, folder: Path) -> None:
        """Write `tracking.json` into a folder, when there is a tracker."""
        if self._trackers:
            write_json(folder / TRACKING, {kind: tracker.location() for kind, tracker in self._trackers.items()})

    def _open(self, kind: str, make: Callable[[], Tracker]) -> None:
        self._trackers[kind] = make()

    def _each(self, send: Callable[[Tracker], None]) -> None:
        for kind, tracker in list(self._trackers.items()):
            self._guarded(kind, partial(send, tracker))

    def _guarded(self, kind: str, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # no error of a tracker is worth hours of training
            self._trackers.pop(kind, None)
            why = str(error).strip().partition("\n")[0]
            say(f"Tracking with {kind} stopped ({type(error).__name__}: {why}); history.csv contains every epoch.")


def check_tracking(settings: schema.Training) -> None:
    """Check that the libraries that `training.track` needs are installed.

    Args:
        settings: Uses `track`.

    Raises:
        UserError: A library is missing.
    """
    for kind in _kinds(settings):
        missing = [name for name in _NEEDS[kind] if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"training.track={settings.track} needs the library {missing[0]}, which is not installed. Install it "
                f"with pip install 'birdnet_fs[{_EXTRAS[kind]}]', or set training.track=none."
            )


def metrics_for_tracking(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Rename the metrics of metrics.json to columns of history.csv with the stage "test".

    Undefined metrics are left out.
    """
    names = {"accuracy": "test_acc", "log_loss": "test_loss"}
    names |= {name: f"test_{name}" for name in ("precision", "recall", "f1", "macro_auroc")}
    found = {names.get(name, name): value for name, value in metrics.items() if name in names or name[:5] == "test_"}
    rows = [row for row in metrics["per_class"] if row["recall"] is not None]
    found |= accuracy_columns("test", [row["name"] for row in rows], [row["recall"] for row in rows])
    return {name: value for name, value in found.items() if isinstance(value, float)}


def _kinds(settings: schema.Training) -> tuple[str, ...]:
    if settings.track == "both":
        return ("tensorboard", "mlflow")
    return () if settings.track == "none" else (settings.track,)
