"""An experiment as a run keeps it, whether a folder is that run, and what differs where it is not."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import flat
from birdnet_fs.runs import teachers
from birdnet_fs.runs.run import load_run

# Settings that do not make another run: the weights are the same but for the order of float sums. A finished run or a
# study is continued whatever they are, a search space may not hold them, and a pretraining has those of its experiment.
OF_THE_MACHINE = ("training.device", "training.threads", "training.workers")
OF_THE_RECORD = ("training.track", "training.checkpoints.n_best")
NOT_OF_THE_RUN = (*OF_THE_MACHINE, *OF_THE_RECORD)


def is_finished(folder: Path, experiment: schema.Experiment) -> bool:
    """True when `folder` is a run with exactly these settings; the machine it ran on and who watched do not count."""
    try:
        return comparable(load_run(folder).experiment) == comparable(resolved(experiment))
    except UserError:
        return False


def differing_settings(folder: Path, experiment: schema.Experiment) -> list[str]:
    """The settings that keep a run folder from being the run of an experiment, as "seed=0, not 5".

    Raises:
        UserError: There is no run in the folder, or none that can be read.
    """
    there, wanted = flat(comparable(load_run(folder).experiment)), flat(comparable(resolved(experiment)))
    keys = [key for key in {**wanted, **there} if there.get(key) != wanted.get(key)]
    return [f"{key}={there.get(key, 'nothing')}, not {wanted.get(key, 'nothing')}" for key in keys]


def resolved(experiment: schema.Experiment) -> schema.Experiment:
    """The experiment as a run keeps it: cut down when it is `debug`, the paths of its settings absolute."""
    data = dataclasses.replace(experiment.data, root=os.path.abspath(experiment.data.root))
    weights = experiment.model.weights
    model = dataclasses.replace(experiment.model, weights=weights and os.path.abspath(weights))
    first = experiment.pretrain and resolved(experiment.pretrain)
    teacher = experiment.distillation.teacher
    if teacher not in ("", schema.SELF):
        teacher = ",".join(os.path.abspath(place) for place in teachers.teacher_paths(teacher))
    taught = dataclasses.replace(experiment.distillation, teacher=teacher)
    table = experiment.pseudo_labels.table
    windows = dataclasses.replace(experiment.pseudo_labels, table=table and os.path.abspath(table))
    return schema.debugged(
        dataclasses.replace(
            experiment, data=data, model=model, pretrain=first, distillation=taught, pseudo_labels=windows
        )
    )


def comparable(experiment: schema.Experiment) -> schema.Experiment:
    """Reset the settings that do not make another run, so that two experiments are equal when their runs are.

    Args:
        experiment: Any; its `pretrain` part is reset as well.

    Returns:
        The experiment with the defaults of `NOT_OF_THE_RUN`.
    """
    return _reset(experiment, NOT_OF_THE_RUN)


def portable(experiment: schema.Experiment) -> schema.Experiment:
    """Reset the settings of the machine, so that an experiment can be kept and trained elsewhere.

    Args:
        experiment: Any; its `pretrain` part is reset as well.

    Returns:
        The experiment with the defaults of `OF_THE_MACHINE`.
    """
    return _reset(experiment, OF_THE_MACHINE)


def run_as(experiment: schema.Experiment, other: schema.Experiment) -> schema.Experiment:
    """Copy the settings that do not make another run (`NOT_OF_THE_RUN`) from another experiment.

    Args:
        experiment: What to train; all its other settings stay.
        other: The experiment whose device, threads, workers, tracking and checkpoints are taken.

    Returns:
        The changed experiment.
    """
    return _copied(experiment, other, NOT_OF_THE_RUN)


def _reset(experiment: schema.Experiment, keys: Sequence[str]) -> schema.Experiment:
    first = experiment.pretrain and _reset(experiment.pretrain, keys)
    return dataclasses.replace(_copied(experiment, schema.Experiment(), keys), pretrain=first)


def _copied(experiment: schema.Experiment, other: schema.Experiment, keys: Sequence[str]) -> schema.Experiment:
    for key in keys:
        experiment = _with(experiment, key.split("."), functools.reduce(getattr, key.split("."), other))
    return experiment


def _with(settings: Any, names: Sequence[str], value: Any) -> Any:
    """The same frozen dataclasses with one value, of the attribute of an attribute, changed."""
    inner = _with(getattr(settings, names[0]), names[1:], value) if names[1:] else value
    return dataclasses.replace(settings, **{names[0]: inner})
