"""Metrics, settings and report of a training as a run of Weights & Biases.

Nothing is sent unless the environment variable WANDB_MODE is "online": runs are written to the folder `wandb` beside
the run folder, and `wandb sync` sends them when somebody wants that. WANDB_PROJECT, WANDB_ENTITY and WANDB_BASE_URL
are W&B's own (https://docs.wandb.ai/guides/track/environment-variables). Code, command line, console output and facts
about the machine are not collected. Metrics are named like the columns of history.csv.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birdnet_fs import schema
from birdnet_fs.core.progress import say
from birdnet_fs.core.settings import flat
from birdnet_fs.training.tracking.mlflow import ARTIFACTS, EXPERIMENT

OFFLINE = "offline"


class WandB:
    """Tracker that writes to a run of W&B.

    Args:
        output: The run folder.
        run_id: Identifier of the run. Default: None, a new one.
        **about: Further arguments of `wandb.init`.
    """

    def __init__(self, output: Path, run_id: str | None = None, **about: Any) -> None:
        self.output = output
        self._run = _open(output, run_id, **about)
        self.run_id = str(self._run.id)

    @classmethod
    def start(cls, experiment: schema.Experiment, output: Path) -> "WandB":
        """Create a run with the settings of the experiment."""
        name = experiment.name if output.name == experiment.name else f"{experiment.name} {output.name}"
        tracker = cls(output, name=name, config=flat(experiment))
        where = "sent to W&B" if _mode() == "online" else f"wandb sync {_folder(output)}/offline-run-* sends it"
        say(f"W&B: run {name!r}; {where}")
        return tracker

    def epoch(self, row: Mapping[str, float]) -> None:
        """Log the history row of an epoch."""
        self._send(row, int(row["epoch"]))

    def report(self, numbers: Mapping[str, float], epoch: int) -> None:
        """Log the metrics of the test and the files of the run folder in ARTIFACTS, and end the run."""
        self._send(numbers, epoch + 1)  # W&B takes no more values for a step that is over
        for name in ARTIFACTS:
            if (self.output / name).is_file():
                self._run.save(str(self.output / name), base_path=str(self.output), policy="now")
        self.close("FINISHED")

    def close(self, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED, which W&B shows as finished or crashed."""
        self._run.finish(exit_code=0 if status == "FINISHED" else 1)

    def location(self) -> dict[str, str]:
        """Return the argument with which `WandB` opens this run again."""
        return {"run_id": self.run_id}

    def _send(self, row: Mapping[str, float], step: int) -> None:
        found = {name: value for name, value in row.items() if name != "epoch" and math.isfinite(value)}
        self._run.log(found, step=step)


def _mode() -> str:
    return os.environ.get("WANDB_MODE", OFFLINE)


def _folder(output: Path) -> Path:
    return output.resolve().parent / "wandb"


def _open(output: Path, run_id: str | None, **about: Any) -> Any:
    import wandb

    quiet = wandb.Settings(
        console="off",
        silent=True,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        symlink=False,  # the run folder may be moved before it is sent
    )
    folder = output.resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        id=run_id,
        resume="must" if run_id and _mode() == "online" else None,
        dir=str(folder),
        mode=_mode(),
        project=os.environ.get("WANDB_PROJECT", EXPERIMENT),
        reinit="create_new",
        settings=quiet,
        **about,
    )
