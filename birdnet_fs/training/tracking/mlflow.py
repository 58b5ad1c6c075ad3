"""Metrics, settings and report of a training as an MLflow run.

The store is the SQLite file `mlruns/mlflow.db` beside the run folder, so that all runs of a folder are compared on one
page: `mlflow ui --backend-store-uri sqlite:///runs/mlruns/mlflow.db` (a database has been MLflow's default since 3.7,
see https://mlflow.org/docs/latest/self-hosting/architecture/backend-store). The environment variable
MLFLOW_TRACKING_URI selects another store. Metrics are named like the columns of history.csv.
"""

import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from birdnet_fs import __version__, schema
from birdnet_fs.core.errors import UserError, shown
from birdnet_fs.core.progress import say
from birdnet_fs.core.settings import show
from birdnet_fs.runs.history import HISTORY

FOLDER, DATABASE = "mlruns", "mlflow.db"
EXPERIMENT = "birdnet_fs"  # one for all runs, because MLflow compares the runs of one experiment
ARTIFACTS = ("report.html", "metrics.json", HISTORY, "config.json")
_BATCH_LIMITS = {"params": 100, "metrics": 1000}  # entities that MLflow accepts in one call
_MAX_NAME_LENGTH = 250  # MLflow's limit, characters


class MLflow:
    """Tracker that writes to an MLflow run.

    Args:
        output: The run folder.
        uri: URI of the MLflow store.
        run_id: Identifier of the run in that store.
    """

    def __init__(self, output: Path, uri: str, run_id: str) -> None:
        self.output, self.uri, self.run_id = output, uri, run_id
        self._client = _client(uri)

    @classmethod
    def of_run(cls, output: Path, uri: str, run_id: str) -> "MLflow":
        """Open the MLflow run of a finished training, which may have been done by somebody else.

        Args:
            output: The run folder.
            uri: URI of the store, from `tracking.json`.
            run_id: Identifier of the run in that store.

        Returns:
            The tracker.

        Raises:
            UserError: The store is neither the one beside the run folder nor that of MLFLOW_TRACKING_URI: a file does
                not decide where something is sent.
        """
        if uri not in (os.environ.get("MLFLOW_TRACKING_URI", ""), _beside(output)):
            raise UserError(f"its store is another one ({shown(uri)}), set MLFLOW_TRACKING_URI to send metrics there")
        return cls(output, uri, run_id)

    @classmethod
    def start(cls, experiment: schema.Experiment, output: Path) -> "MLflow":
        """Create an MLflow run with the settings of the experiment as parameters."""
        uri, artifacts = os.environ.get("MLFLOW_TRACKING_URI", ""), None
        if not uri:
            folder = output.resolve().parent / FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            uri, artifacts = _beside(output), (folder / "artifacts").as_uri()
        client = _client(uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        number = found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_location=artifacts)
        name = experiment.name if output.name == experiment.name else f"{experiment.name} {output.name}"
        tags = {"run_folder": str(output.resolve()), "birdnet_fs": __version__}
        run = cls(output, uri, client.create_run(number, run_name=name, tags=tags).info.run_id)
        settings = [line.partition("=") for line in show(experiment).split("\n")]
        run._log("params", [_entity("Param", key, value) for key, _, value in settings])
        say(f"MLflow: run {name!r}; mlflow ui --backend-store-uri {uri}")
        return run

    def epoch(self, row: Mapping[str, float]) -> None:
        """Log the history row of an epoch as metrics."""
        self._send(row, int(row["epoch"]))

    def report(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Log the metrics of the test, and the files of the run folder in ARTIFACTS."""
        self._send(numbers, epoch)
        for name in ARTIFACTS:
            if (self.output / name).is_file():
                self._client.log_artifact(self.run_id, str(self.output / name))

    def close(self, status: str) -> None:
        """Set the final status of the run: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self.run_id, status)

    def location(self) -> dict[str, str]:
        """Return the arguments with which `MLflow` opens this run again."""
        return {"uri": self.uri, "run_id": self.run_id}

    def _send(self, row: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        sent = {metric_name(name): value for name, value in row.items() if name != "epoch" and math.isfinite(value)}
        self._log("metrics", [_entity("Metric", name, value, now, step) for name, value in sent.items()])

    def _log(self, kind: str, entities: Sequence[Any]) -> None:
        limit = _BATCH_LIMITS[kind]
        for start in range(0, len(entities), limit):
            self._client.log_batch(self.run_id, **{kind: entities[start : start + limit]})


def metric_name(column: str) -> str:
    """Turn a history column into a valid MLflow metric name.

    MLflow accepts letters, digits and `_-. :`. Names are cut into at most three parts at "/"; a part of dots only
    becomes "_".

    >>> metric_name("val/per_class_accuracy/Junco (slate/gray)")
    'val/per_class_accuracy/Junco _slate_gray_'
    """
    parts = (re.sub(r"[^\w\-. :]", "_", part) for part in column.split("/", 2))
    return "/".join(part if part.strip(".") else "_" for part in parts)[:_MAX_NAME_LENGTH]


def _beside(output: Path) -> str:
    """URI of the store in the folder of a run folder."""
    return f"sqlite:///{output.resolve().parent / FOLDER / DATABASE}"


def _client(uri: str) -> Any:
    # nothing is sent anywhere but to the chosen store, and messages about its migrations are left out
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _entity(kind: str, *values: Any) -> Any:
    from mlflow import entities

    return getattr(entities, kind)(*values)
