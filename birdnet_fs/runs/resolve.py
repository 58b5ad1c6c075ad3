"""Resolve the settings of an experiment as a run stores them, and compare a run folder with an experiment.

A run is that of an experiment when its settings are the same (NEUTRAL_SETTINGS aside), and its labels, recordings and
whatever else it was trained from (inputs.py).
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import flat, override
from birdnet_fs.encoders.reference import encoder_paths, read_encoders
from birdnet_fs.runs import teachers
from birdnet_fs.runs.inputs import input_changes
from birdnet_fs.runs.run import load_run

# Settings that do not change the weights, but for the order of float sums. A finished run or a study is continued
# whatever they are, a search space may not contain them, and a pretraining has those of its experiment.
FEATURES_KEPT = "training.cache"  # depends on the augmentation, so that a pretraining has its own
CACHE_SETTINGS = ("data.cache", "data.cache_gb", FEATURES_KEPT)
MACHINE_SETTINGS = (
    "training.device",
    "training.threads",
    "training.workers",
    "training.gradient_checkpointing",
    *CACHE_SETTINGS,
)
OUTPUT_SETTINGS = ("training.track", "training.checkpoints.n_best")
NEUTRAL_SETTINGS = (*MACHINE_SETTINGS, *OUTPUT_SETTINGS)


def has_settings(folder: Path, experiment: schema.Experiment) -> bool:
    """Whether `folder` is a run with these settings, NEUTRAL_SETTINGS aside."""
    try:
        return comparable(_as_asked(folder)) == comparable(resolved(experiment))
    except UserError:
        return False


def is_finished(folder: Path, experiment: schema.Experiment) -> bool:
    """Whether `folder` is the finished run of an experiment: the same settings, labels and recordings.

    UserErrors of `input_changes` are passed on: the recordings or labels of the experiment cannot be read.

    Args:
        folder: A run folder, which need not exist.
        experiment: The experiment.

    Returns:
        True when training would give the same run.
    """
    return has_settings(folder, experiment) and not input_changes(folder, resolved(experiment))


def differing_settings(folder: Path, experiment: schema.Experiment) -> list[str]:
    """The settings in which a run differs from an experiment; a UserError of `load_run` is passed on.

    Args:
        folder: A run folder.
        experiment: The experiment.

    Returns:
        Texts such as "seed=0, not 5", the value of the run first; NEUTRAL_SETTINGS are left out.
    """
    found, wanted = flat(comparable(_as_asked(folder))), flat(comparable(resolved(experiment)))
    keys = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
    return [f"{key}={found.get(key, 'nothing')}, not {wanted.get(key, 'nothing')}" for key in keys]


def resolved(experiment: schema.Experiment) -> schema.Experiment:
    """The experiment as a run stores it: reduced when it has `debug`, with absolute paths."""
    data = experiment.data
    data = dataclasses.replace(
        data,
        root=os.path.abspath(data.root),
        spectrograms=data.spectrograms and os.path.abspath(data.spectrograms),
        cache=data.cache and os.path.abspath(data.cache),
    )
    weights = experiment.model.weights
    model = dataclasses.replace(
        experiment.model,
        weights=weights and os.path.abspath(weights),
        encoder=",".join(os.path.abspath(path) for path in encoder_paths(experiment.model.encoder)),
        encoder_card=",".join(map(_card, experiment.model.encoder_card.split(","))),
    )
    first = experiment.pretrain and resolved(experiment.pretrain)
    teacher = experiment.distillation.teacher
    if teacher not in ("", schema.SELF):
        teacher = ",".join(os.path.abspath(place) for place in teachers.teacher_paths(teacher))
    distillation = dataclasses.replace(experiment.distillation, teacher=teacher)
    table = experiment.pseudo_labels.table
    pseudo_labels = dataclasses.replace(experiment.pseudo_labels, table=table and os.path.abspath(table))
    return schema.debugged(
        dataclasses.replace(
            experiment, data=data, model=model, pretrain=first, distillation=distillation, pseudo_labels=pseudo_labels
        )
    )


def _as_asked(folder: Path) -> schema.Experiment:
    """The experiment of a run, with the settings that it left to a choice as they were asked for."""
    experiment = load_run(folder).experiment
    if not experiment.model.encoder:
        return experiment
    return override(experiment, [f"{key}={value}" for key, value in read_encoders(folder).asked.items()])


def _card(name: str) -> str:
    """The name of a card without spaces; the absolute path of a card in a file."""
    return os.path.abspath(name.strip()) if name.strip().lower().endswith(".json") else name.strip()


def comparable(experiment: schema.Experiment) -> schema.Experiment:
    """Reset NEUTRAL_SETTINGS, so that two experiments are equal when their runs are.

    Args:
        experiment: Any; its `pretrain` part is reset as well.

    Returns:
        The experiment with the defaults of `NEUTRAL_SETTINGS`.
    """
    return _reset(experiment, NEUTRAL_SETTINGS)


def portable(experiment: schema.Experiment) -> schema.Experiment:
    """Reset MACHINE_SETTINGS, so that an experiment can be stored and trained on another machine.

    Args:
        experiment: Any; its `pretrain` part is reset as well.

    Returns:
        The experiment with the defaults of `MACHINE_SETTINGS`.
    """
    return _reset(experiment, MACHINE_SETTINGS)


def with_neutral_settings(experiment: schema.Experiment, other: schema.Experiment) -> schema.Experiment:
    """Copy NEUTRAL_SETTINGS from another experiment.

    Args:
        experiment: The experiment to change; all its other settings stay.
        other: The experiment whose device, threads, workers, cache, tracking and number of checkpoints are copied.

    Returns:
        The changed experiment.
    """
    return _copied(experiment, other, [key for key in NEUTRAL_SETTINGS if key != FEATURES_KEPT])


def pretraining(experiment: schema.Experiment) -> schema.Experiment | None:
    """The `pretrain` part of an experiment as it is trained: with its seed, `debug` and NEUTRAL_SETTINGS.

    Args:
        experiment: The experiment.

    Returns:
        The part; None when there is none.
    """
    first = experiment.pretrain and dataclasses.replace(
        experiment.pretrain, seed=experiment.seed, debug=experiment.debug
    )
    return first and with_neutral_settings(first, experiment)


def _reset(experiment: schema.Experiment, keys: Sequence[str]) -> schema.Experiment:
    first = experiment.pretrain and _reset(experiment.pretrain, keys)
    return dataclasses.replace(_copied(experiment, schema.Experiment(), keys), pretrain=first)


def _copied(experiment: schema.Experiment, other: schema.Experiment, keys: Sequence[str]) -> schema.Experiment:
    groups: dict[str, Any] = {}  # replaced together, since settings of two groups may need each other
    for name, *names in (key.split(".") for key in keys):
        value = functools.reduce(getattr, names, getattr(other, name))
        groups[name] = _with(groups.get(name, getattr(experiment, name)), names, value)
    return dataclasses.replace(experiment, **groups)


def _with(settings: Any, names: Sequence[str], value: Any) -> Any:
    """A copy of nested frozen dataclasses in which the value at a path of attribute names is replaced."""
    inner = _with(getattr(settings, names[0]), names[1:], value) if names[1:] else value
    return dataclasses.replace(settings, **{names[0]: inner})
