"""Provenance: the recordings that a run was trained on, itself and through its base runs.

The base runs of a run are those with its initial weights, its teachers, its pretraining and the runs that made its
pseudo-labels. `Provenance.trained_on` is used for all of these, for few-shot evaluation and for evaluation on new
recordings. Recordings are compared by their samples (data/copies.py), not by their paths.

The `partition.csv` of a run holds its own clips and one row ("inherited") for each recording that its base runs were
trained on, so that these runs may be deleted. For runs written before these rows existed, the recordings that are still
at their paths and the base runs that still exist are used.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.data import pseudo_label_table
from birdnet_fs.data.copies import match_recordings, recording_key, with_fingerprints
from birdnet_fs.data.ledger import escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.partition import (
    HELD_OUT,
    INHERITED,
    PARTITION,
    PSEUDO_LABELS,
    TRAIN,
    Partition,
    has_fingerprints,
    read_partition,
)
from birdnet_fs.runs import teachers
from birdnet_fs.runs.ensemble import is_ensemble, load_ensemble
from birdnet_fs.runs.run import CONFIG, Run, load_run

PRETRAIN = "pretrain"  # folder of the run of the `pretrain` part of an experiment, inside or beside the run


@dataclass(frozen=True)
class Provenance:
    """The clips that a run was trained on.

    Attributes:
        own: Clips of its own training, labeled and pseudo-labeled. Default: ().
        inherited: Clips that its base runs were trained on. Default: ().
    """

    own: tuple[Clip, ...] = ()
    inherited: tuple[Clip, ...] = ()

    @property
    def labels(self) -> set[str]:
        """The labels of all clips."""
        return {label for clip in (*self.own, *self.inherited) for label in clip.labels}

    def trained_on(self, clips: Sequence[Clip]) -> list[Clip]:
        """The clips that are of a training recording, under any file name and of any part of the recording."""
        known = match_recordings(clips, (*self.own, *self.inherited))
        return [clip for clip, same in zip(clips, known, strict=True) if same]


def provenance(run: Path) -> Provenance:
    """Read the clips that a run was trained on; a line on stderr is written where they are not fully known.

    A UserError of `read_partition` is passed on when a `partition.csv` is damaged.

    Args:
        run: A run folder, a checkpoint or an ensemble. An exported file has no provenance.

    Returns:
        The clips; none for a run without `partition.csv`.
    """
    if is_ensemble(run):
        members = [provenance(member.path) for member in load_ensemble(run).members]
        return Provenance(
            tuple(clip for member in members for clip in member.own),
            tuple(clip for member in members for clip in member.inherited),
        )
    table = run / PARTITION
    if not table.is_file():
        say(f"{escaped(run)} has no {PARTITION}, so its training recordings are unknown.")
        return Provenance()
    own, from_base_runs = read_partition(table, TRAIN, PSEUDO_LABELS), read_partition(table, INHERITED)
    if not has_fingerprints(table):
        say(
            f"{escaped(run)} was written before {PARTITION} had fingerprints: its training recordings are compared by "
            "samples where they are still at their paths, else by path."
        )
        for one in _base_runs(run, {run}):
            from_base_runs += read_partition(one / PARTITION, TRAIN, PSEUDO_LABELS, INHERITED)
    return Provenance(own, from_base_runs)


def inherited(runs: Iterable[Path], own: Sequence[Clip] = ()) -> tuple[Clip, ...]:
    """The clips that a new run inherits from its base runs; a UserError of `read_partition` is passed on.

    Args:
        runs: The base runs.
        own: Clips of the new run; their recordings are left out, unless a base run has a label for them that no clip in
            `own` has. Default: ().

    Returns:
        One clip for each recording, with all its labels.
    """
    merged: dict[str, Clip] = {}
    found = [provenance(run) for run in dict.fromkeys(runs)]
    for clip in with_fingerprints(clip for one in found for clip in (*one.own, *one.inherited)):
        key = recording_key(clip)
        first = merged.setdefault(key, Clip(clip.path, fingerprint=clip.fingerprint))
        if not set(clip.labels) <= set(first.labels):
            merged[key] = dataclasses.replace(first, labels=tuple(dict.fromkeys((*first.labels, *clip.labels))))
    clips, labels = list(merged.values()), {label for clip in own for label in clip.labels}
    known = match_recordings(clips, own)
    return tuple(c for c, same in zip(clips, known, strict=True) if not (same and labels.issuperset(c.labels)))


def refuse_trained_on(run: Path, parts: Partition, instead: str) -> None:
    """Refuse a base run that was trained on validation or held-out clips.

    Args:
        run: A run folder.
        parts: The clips of the new run.
        instead: Remedy, for the message.

    Raises:
        UserError: The run or one of its base runs was trained on such a clip, or the run has no `partition.csv`.
    """
    if not (run / PARTITION).is_file():
        raise UserError(f"{escaped(run)} has no {PARTITION}, so its training recordings are unknown; {instead}.")
    found = provenance(run)
    seen = found.trained_on((*parts.val, *parts.held_out))
    if seen:
        own = any(match_recordings(seen, found.own))
        raise UserError(
            f"{escaped(run)}{'' if own else ', through one of its base runs,'} was trained on {len(seen)} clips that "
            f"are held out here (the first: {escaped(seen[0].path)}); {instead}."
        )


def labeling_runs(experiment: schema.Experiment) -> list[Path]:
    """The runs that made the pseudo-labels of `pseudo_labels.table` and still have a `partition.csv`."""
    table = pseudo_label_table.find_pseudo_label_table(experiment)
    runs = pseudo_label_table.read_labeling_runs(table) if table else ()
    return [run for run in runs if (run / CONFIG).is_file() and (run / PARTITION).is_file()]


def refuse_labels(experiment: schema.Experiment, parts: Partition) -> None:
    """Refuse pseudo-labels of a run that was trained on validation or held-out clips, as `refuse_trained_on` does.

    Args:
        experiment: The experiment with `pseudo_labels.table`.
        parts: Clips of the experiment.
    """
    table, known = pseudo_label_table.find_pseudo_label_table(experiment), labeling_runs(experiment)
    for run in known:
        refuse_trained_on(run, parts, f"label the windows of {table} with a run of the same fold")
    if table and (not known or len(known) < len(pseudo_label_table.read_labeling_runs(table))):
        say(
            f"The runs that labeled {table} are gone or have no {PARTITION}; make sure that they were not trained on "
            "clips that are held out here."
        )


def _base_runs(run: Path, known: set[Path]) -> Iterator[Path]:
    """The base runs of a run that still exist, and their base runs."""
    experiment = load_run(run).experiment
    found = [Path(experiment.model.weights)] if experiment.model.weights else []
    if experiment.pretrain:
        first = [place for place in (run / PRETRAIN, run.parent / PRETRAIN) if (place / CONFIG).is_file()]
        found += [place for place in first if load_run(place).experiment.data == experiment.pretrain.data]
    with contextlib.suppress(UserError):  # moved since
        found += [teacher.path for teacher in teachers.load_teachers(experiment)]
    with contextlib.suppress(UserError):
        table = pseudo_label_table.find_pseudo_label_table(experiment)
        found += pseudo_label_table.read_labeling_runs(table) if table else ()
    for place in found:
        if place not in known and (place / CONFIG).is_file() and (place / PARTITION).is_file():
            known.add(place)
            yield place
            yield from _base_runs(place, known)


def held_out_clips(run: Run) -> tuple[Clip, ...]:
    """The held-out clips of a run, from its `partition.csv`."""
    return read_partition(run.path / PARTITION, HELD_OUT)
