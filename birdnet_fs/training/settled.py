"""An experiment as a run keeps it, whether a folder is that run, and what differs where it is not."""

import dataclasses
import os
from pathlib import Path

from birdnet_fs import schema
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.settings import flat
from birdnet_fs.training import teachers
from birdnet_fs.training.run_folder import load_run


def finished(folder: Path, experiment: schema.Experiment) -> bool:
    """True when `folder` is a run with exactly these settings; the machine it ran on and who watched do not count."""
    try:
        return _portable(load_run(folder).experiment) == _portable(settled(experiment))
    except UserError:
        return False


def differences(folder: Path, experiment: schema.Experiment) -> list[str]:
    """The settings that keep a run folder from being the run of an experiment, as "seed=0, not 5".

    Raises:
        UserError: There is no run in the folder, or none that can be read.
    """
    there, wanted = flat(_portable(load_run(folder).experiment)), flat(_portable(settled(experiment)))
    keys = [key for key in {**wanted, **there} if there.get(key) != wanted.get(key)]
    return [f"{key}={there.get(key, 'nothing')}, not {wanted.get(key, 'nothing')}" for key in keys]


def settled(experiment: schema.Experiment) -> schema.Experiment:
    """The experiment as a run keeps it: cut down when it is `debug`, the paths of its settings absolute."""
    data = dataclasses.replace(experiment.data, root=os.path.abspath(experiment.data.root))
    weights = experiment.model.weights
    model = dataclasses.replace(experiment.model, weights=weights and os.path.abspath(weights))
    first = experiment.pretrain and settled(experiment.pretrain)
    teacher = experiment.distillation.teacher
    if teacher not in ("", schema.SELF):
        teacher = ",".join(os.path.abspath(place) for place in teachers.places(teacher))
    taught = dataclasses.replace(experiment.distillation, teacher=teacher)
    table = experiment.pseudo_labels.table
    windows = dataclasses.replace(experiment.pseudo_labels, table=table and os.path.abspath(table))
    return schema.debugged(
        dataclasses.replace(
            experiment, data=data, model=model, pretrain=first, distillation=taught, pseudo_labels=windows
        )
    )


def _portable(experiment: schema.Experiment) -> schema.Experiment:
    checkpoints = dataclasses.replace(experiment.training.checkpoints, n_best=0)
    plain = dataclasses.replace(
        experiment.training,
        device="auto",
        threads=0,
        workers=0,
        track="none",
        checkpoints=checkpoints,
    )
    first = experiment.pretrain and _portable(experiment.pretrain)
    return dataclasses.replace(experiment, training=plain, pretrain=first)
