"""`bfs.Trainer`: train an experiment and test its run on the held-out clips, as `birdnet-fs train` does.

accuracy, precision, recall, f1 = bfs.Trainer(birds10(), "runs/birds10").train().test()
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from birdnet_fs import schema
from birdnet_fs.core.distributed.exchange import from_main
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.lock import folder_lock
from birdnet_fs.reports.held_out import evaluate_again
from birdnet_fs.runs.folder_kind import refuse_other_results
from birdnet_fs.runs.run import Run, load_run
from birdnet_fs.training.on_encoders.training import copy_encoders
from birdnet_fs.training.resume.existing import check_unfinished, holds_run
from birdnet_fs.training.resume.state import STATE
from birdnet_fs.training.trainer import train


class HeldOutMetrics(NamedTuple):
    """Metrics of the held-out clips, each 0..1; nan where undefined.

    Attributes:
        accuracy: Share of the clips whose most probable class is theirs; with several labels, of the clips whose set of
            labels is exactly right.
        precision: Mean over the classes, each weighted by the number of its clips.
        recall: Mean over the classes with the same weights; equal to the accuracy for clips with one label.
        f1: Mean over the classes with the same weights.
    """

    accuracy: float
    precision: float
    recall: float
    f1: float


class Trainer:
    """Training of one experiment into one run folder, and its test.

    `metrics` holds the content of metrics.json after `test`: macro means, AUROC with its interval, every class.

    Args:
        experiment: The settings.
        output: The run folder. Default: None, `runs/NAME` of the experiment.
        overwrite: Whether to replace a run, or an unfinished training, with other settings (option `--overwrite`).
            Default: False.
        copy_encoder: Whether to copy the file of `model.encoder` into the run. Default: False.

    Raises:
        UserError: `experiment` is no Experiment.
    """

    def __init__(
        self,
        experiment: schema.Experiment,
        output: Path | str | None = None,
        *,
        overwrite: bool = False,
        copy_encoder: bool = False,
    ) -> None:
        if not isinstance(experiment, schema.Experiment):
            raise UserError(
                "Trainer needs an Experiment, as bfs.schema.Experiment(...) or the result of a function of config.py: "
                f"Trainer(birds10()). Received: {experiment!r}"
            )
        self.experiment = experiment
        self.output = Path("runs") / experiment.name if output is None else Path(output)
        self.overwrite, self.copy_encoder = overwrite, copy_encoder
        self.metrics: Mapping[str, Any] = {}
        self._run: Run | None = None

    def __repr__(self) -> str:
        state = "trained" if self._run else "not trained yet"
        if self.metrics:
            state = ", ".join(f"{name} {value:.4f}" for name, value in held_out_metrics(self.metrics)._asdict().items())
        model = self.experiment.model
        return f"Trainer({self.experiment.name!r}, {str(self.output)!r}): {model.encoder or model.name}, {state}"

    @property
    def run(self) -> Run:
        """Finished run in the folder.

        Raises:
            UserError: The folder holds no finished run of this experiment.
        """
        if self._run is None:
            if not holds_run(self.output, self.experiment):
                raise UserError(f"{self.output} holds no finished run of {self.experiment.name!r}; call train() first.")
            self._run = load_run(self.output)
        return self._run

    def train(self) -> Self:
        """Train the run, or go on from the state of a stopped training; a finished run of the same settings is kept.

        An interrupted cell (Ctrl-C) saves the state: `train()` again, also in another process, goes on from there.

        Returns:
            This trainer.

        Raises:
            UserError: The folder holds other results or a run with other settings, another process writes it, or the
                experiment cannot be trained (`training.trainer.train`).
        """
        check_output(self.output)
        with folder_lock(self.output):
            there = from_main(self._is_there)
            self._run = (
                load_run(self.output) if there else train(self.experiment, self.output, copy_encoder=self.copy_encoder)
            )
            if there and self.copy_encoder:
                from_main(lambda: copy_encoders(self.run))
        self.metrics = {}
        return self

    def _is_there(self) -> bool:
        refuse_other_results(self.output, "a run")
        there = not self.overwrite and holds_run(self.output, self.experiment)
        if self.overwrite:
            shutil.rmtree(self.output / STATE, ignore_errors=True)
        else:
            check_unfinished(self.output, self.experiment)
        return there

    def test(self) -> HeldOutMetrics:
        """Score the held-out clips; metrics.json and report.html are written into the run folder.

        A run trained in episodes is tested in episodes on the held-out classes. Recordings outside of the data set are
        scored by `birdnet-fs evaluate RUN RECORDINGS -o FOLDER`.

        Returns:
            The metrics, weighted as scikit-learn's `average="weighted"`.

        Raises:
            UserError: There is no finished run, nothing was held out, or the held-out recordings are gone.
        """
        self.metrics = evaluate_again(self.run.path)
        return held_out_metrics(self.metrics)


def held_out_metrics(metrics: Mapping[str, Any]) -> HeldOutMetrics:
    """The four metrics of a metrics.json, of clips or of episodes.

    Args:
        metrics: Content of metrics.json.

    Returns:
        The metrics; nan for null.
    """
    if "test_acc" not in metrics:
        names = ("accuracy", "weighted_precision", "weighted_recall", "weighted_f1")
        return HeldOutMetrics(*(math.nan if metrics[name] is None else metrics[name] for name in names))
    rows = [row for row in metrics["per_class"] if row["n_queries"]]
    return HeldOutMetrics(metrics["test_acc"], *(_weighted(rows, name) for name in ("precision", "recall", "f1")))


def _weighted(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    total = sum(row["n_queries"] for row in rows)
    return sum(row["n_queries"] * row[name] for row in rows) / total if total else math.nan
