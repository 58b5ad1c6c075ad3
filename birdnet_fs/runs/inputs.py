"""Inputs of a run beside its settings: its recordings and labels, and the runs and tables it started from.

`partition.csv` holds the labels, times and parts of the clips. `inputs.json`, written from what was there when the
training began, holds the size and modification time of every recording and the hashes of initial weights, teachers and
pseudo-labels. With both, `input_changes` finds labels that were corrected and files that were moved since.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256, write_text
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.data.changes import clip_changes, file_changes, file_states
from birdnet_fs.data.manifest import read_background
from birdnet_fs.data.partition import HELD_OUT, PARTITION, TRAIN, VAL, Partition, partition, read_partition
from birdnet_fs.data.pseudo_label_table import find_pseudo_label_table
from birdnet_fs.encoders.reference import encoder_paths
from birdnet_fs.runs import teachers
from birdnet_fs.runs.run import CLASSES, WEIGHTS

INPUTS = "inputs.json"
_PARTS = (TRAIN, VAL, HELD_OUT)
_UNKNOWN = (-1, -1)


def training_inputs(experiment: schema.Experiment, parts: Partition) -> dict[str, Any]:
    """Collect what a training starts from, for `write_inputs`; call it before the training.

    Args:
        experiment: The resolved settings.
        parts: The divided clips.

    Returns:
        A JSON object.
    """
    files = file_states(clip.path for name in _PARTS for clip in getattr(parts, name))
    background = file_states(clip.path for clip in read_background(experiment.data).clips)
    found: dict[str, Any] = {
        "format": 1,
        "files": files,
        "background": {path: state for path, state in background.items() if path not in files},
        "hashes": {
            "the initial weights": _hash(experiment.model.weights),
            "the encoder": " ".join(map(_hash, encoder_paths(experiment.model.encoder))),
            "the teacher": _teacher(experiment),
            "the pseudo-labels": _pseudo_labels(experiment),
            "the spectrograms": _states(experiment.data.spectrograms),
        },
    }
    if experiment.pretrain:
        first = _pretraining(experiment, experiment.pretrain)
        own = partition(first)
        found["pretrain"] = {"clips": clips_digest(own), **training_inputs(first, own)}
    return found


def write_inputs(folder: Path, inputs: Mapping[str, Any]) -> None:
    """Write the inputs.json of a run."""
    # names of files may hold bytes that are not UTF-8, which JSON in ASCII keeps
    write_text(folder / INPUTS, json.dumps(inputs, indent=1) + "\n")


def input_changes(folder: Path, experiment: schema.Experiment) -> list[str]:
    """Compare what a run was trained from with what its training would start from now.

    A run of an earlier version without `inputs.json` is compared by its `partition.csv` alone, and one without that is
    not compared, with a line on stderr. Initial weights, teachers and tables that no longer exist are not compared
    either. UserErrors of `partition` are passed on: the recordings or labels cannot be read.

    Args:
        folder: The run folder.
        experiment: The resolved settings, equal to those of the run.

    Returns:
        Texts such as "1 label changed"; none when nothing has changed.
    """
    table = folder / PARTITION
    if not table.is_file():
        say(f"{escaped(folder)} has no {PARTITION}: whether its labels and recordings have changed is unknown.")
        return []
    parts = partition(experiment)
    stored = _stored(folder)
    if not stored:
        say(
            f"{escaped(folder)} has no readable {INPUTS}: its labels and its recordings are compared, but not its "
            "background, initial weights, teachers and pseudo-labels."
        )
    old = {name: read_partition(table, name) for name in _PARTS}
    new = {name: getattr(parts, name) for name in _PARTS}
    known = {os.fspath(clip.path): clip.fingerprint for clips in old.values() for clip in clips}
    states = {path: tuple(state) for path, state in stored.get("files", {}).items()}
    before = {path: states.get(path, _UNKNOWN) for path in known}
    now = file_states(clip.path for clips in new.values() for clip in clips)
    files, moved = file_changes(before, now, known)
    found = [*clip_changes(old, new, moved), *files]
    return [*found, *(_other_changes(folder, stored, training_inputs(experiment, parts)) if stored else [])]


def _other_changes(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The changes of background, hashes and pretraining."""
    before = {path: tuple(state) for path, state in old["background"].items()}
    changed, _ = file_changes(before, new["background"], {})
    found = [f"background: {text}" for text in changed]
    for name, value in old["hashes"].items():
        present = new["hashes"].get(name, "")
        if value and not present:
            say(f"{escaped(folder)}: {name} no longer exist{'s' if name == 'the teacher' else ''} and is not compared.")
        elif value != present:
            found.append(f"{name} changed")
    first, now = old.get("pretrain"), new.get("pretrain")
    if first and now:
        own = [] if first["clips"] == now["clips"] else ["labels or clips changed"]
        states = {path: tuple(state) for path, state in first["files"].items()}
        own += file_changes(states, now["files"], {})[0]
        found += [f"pretraining: {text}" for text in (*own, *_other_changes(folder, first, now))]
    return found


def _stored(folder: Path) -> dict[str, Any]:
    """The inputs.json of a run; {} when it is missing, damaged or of a newer version."""
    try:
        found = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
        return found if found["format"] == 1 and {"files", "background", "hashes"} <= found.keys() else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _pretraining(experiment: schema.Experiment, first: schema.Experiment) -> schema.Experiment:
    return schema.debugged(dataclasses.replace(first, seed=experiment.seed, debug=experiment.debug))


def clips_digest(parts: Partition) -> str:
    """Hash of the clips of all parts with their labels and times, in any order."""
    rows = sorted(
        repr((name, os.fspath(clip.path), clip.onset_s, clip.offset_s, clip.labels, clip.secondary))
        for name in _PARTS
        for clip in getattr(parts, name)
    )
    return hashlib.sha256("\n".join(rows).encode(errors="surrogateescape")).hexdigest()


def _hash(place: Path | str) -> str:
    """Hash of the weights of a run folder, or of a file; "" when there is none."""
    if not place:
        return ""
    path = Path(place)
    files = [path / WEIGHTS, path / CLASSES] if path.is_dir() else [path]
    return " ".join(sha256(file) for file in files if file.is_file())


def _states(folder: str) -> str:
    """Hash of names, sizes and times of the files in a folder; "" when there are none."""
    files = sorted(path for path in Path(folder).rglob("*.npy") if path.is_file()) if folder else []
    rows = [(os.path.relpath(path, folder), state) for path, state in file_states(files).items()]
    return hashlib.sha256(repr(rows).encode(errors="surrogateescape")).hexdigest() if rows else ""


def _teacher(experiment: schema.Experiment) -> str:
    teacher = experiment.distillation
    if teacher.saved:
        return _hash(teacher.teacher)
    try:
        return " ".join(_hash(run.path) for run in teachers.load_teachers(experiment))
    except UserError:
        return ""  # moved or deleted since


def _pseudo_labels(experiment: schema.Experiment) -> str:
    try:
        table = find_pseudo_label_table(experiment)
    except UserError:
        return ""  # moved or deleted since
    return _hash(table) if table else ""
