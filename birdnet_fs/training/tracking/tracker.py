"""The numbers of a training for those who watch it elsewhere: TensorBoard (to_tensorboard) and MLflow (to_mlflow).

`training.track` says where. What fails there is said once and never stops a training. A finished run keeps the places
in `tracking.json`, so that the numbers of its test follow.
"""

import importlib.util
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.progress import say
from birdnet_fs.runs.history import accuracy_columns
from birdnet_fs.training.tracking.mlflow import MLflow
from birdnet_fs.training.tracking.tensorboard import TensorBoard

TRACKING = "tracking.json"
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
_NEEDS = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}


class Tracker(Protocol):
    """One place that numbers go to."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """The row of an epoch."""

    def report(self, numbers: Mapping[str, float], epoch: int) -> None:
        """The numbers of the test after the last epoch."""

    def close(self, status: str) -> None:
        """The training ended: FINISHED, FAILED or KILLED."""

    def place(self) -> dict[str, str]:
        """What opens it again."""


class Tracking:
    """All places of one training; one that fails is said and left out from then on.

    Args:
        makers: By name, what opens each.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Tracker]]) -> None:
        self._trackers: dict[str, Tracker] = {}
        for kind, make in makers.items():
            self._guarded(kind, partial(self._open, kind, make))

    @classmethod
    def start(cls, experiment: schema.Experiment, output: Path) -> "Tracking":
        """Open the places of a training into the run folder `output`."""
        makers: dict[str, Callable[[], Tracker]] = {
            "tensorboard": lambda: TensorBoard.start(experiment, output),
            "mlflow": lambda: MLflow.start(experiment, output),
        }
        return cls({kind: makers[kind] for kind in _kinds(experiment.training)})

    @classmethod
    def of_run(cls, output: Path) -> "Tracking":
        """Those of a finished run; none without its `tracking.json`."""
        if not (output / TRACKING).is_file():
            return cls({})
        try:
            places: dict[str, Any] = json.loads((output / TRACKING).read_text(encoding="utf-8"))
            makers: dict[str, Callable[[], Tracker]] = {
                "tensorboard": lambda: TensorBoard(output),
                "mlflow": lambda: MLflow(output, **places["mlflow"]),
            }
            return cls({kind: makers[kind] for kind in places})
        except (ValueError, KeyError, TypeError):
            say(f"{output / TRACKING} is not as it was written; the numbers of the test are in metrics.json alone.")
            return cls({})

    def epoch(self, row: Mapping[str, float]) -> None:
        """Send the row of an epoch."""
        self._each(lambda tracker: tracker.epoch(row))

    def report(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Send the numbers of the test."""
        self._each(lambda tracker: tracker.report(numbers, epoch))

    def close(self, status: str) -> None:
        """Say how the training ended."""
        self._each(lambda tracker: tracker.close(status))

    def remember(self, folder: Path) -> None:
        """Write `tracking.json`."""
        if self._trackers:
            write_json(folder / TRACKING, {kind: tracker.place() for kind, tracker in self._trackers.items()})

    def _open(self, kind: str, make: Callable[[], Tracker]) -> None:
        self._trackers[kind] = make()

    def _each(self, send: Callable[[Tracker], None]) -> None:
        for kind, tracker in list(self._trackers.items()):
            self._guarded(kind, partial(send, tracker))

    def _guarded(self, kind: str, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # whatever a store does: hours of training are worth more
            self._trackers.pop(kind, None)
            why = str(error).strip().partition("\n")[0]
            say(f"Nothing more is sent to {kind} ({type(error).__name__}: {why}); history.csv has every epoch.")


def check_tracking(settings: schema.Training) -> None:
    """See that the libraries are there that `training.track` needs.

    Raises:
        UserError: One is missing.
    """
    for kind in _kinds(settings):
        missing = [name for name in _NEEDS[kind] if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"training.track={settings.track} needs the library {missing[0]}, which is not installed; "
                "pip install 'birdnet_fs[track]', or set training.track=none."
            )


def test_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a metrics.json under the names of history.csv, stage "test"; what is undefined is left out."""
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
