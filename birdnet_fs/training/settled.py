"""An experiment as a run keeps it, and whether a folder is that run."""

import dataclasses
import os
from pathlib import Path

from birdnet_fs import schema
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.training import teachers
from birdnet_fs.training.run_folder import load_run


def finished(folder: Path, experiment: schema.Experiment) -> bool:
    """True when `folder` is a run with exactly these settings; the machine it ran on and who watched do not count."""
    try:
        return _portable(load_run(folder).experiment) == _portable(settled(experiment))
    except UserError:
        return False


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
    table = experiment.pseudo.table
    windows = dataclasses.replace(experiment.pseudo, table=table and os.path.abspath(table))
    return schema.debugged(
        dataclasses.replace(experiment, data=data, model=model, pretrain=first, distillation=taught, pseudo=windows)
    )


def _portable(experiment: schema.Experiment) -> schema.Experiment:
    plain = dataclasses.replace(experiment.training, device="auto", threads=0, workers=0, track="none", checkpoints=0)
    first = experiment.pretrain and _portable(experiment.pretrain)
    return dataclasses.replace(experiment, training=plain, pretrain=first)
