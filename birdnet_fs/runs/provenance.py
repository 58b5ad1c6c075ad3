"""What a run was trained on, by itself and through the runs that it started from or learned from.

`Provenance.trained_on` answers for everything that asks: starting weights, teachers, pseudo-labels, few-shot evaluation
and evaluation on new recordings. Recordings are compared by their samples (data/copies.py), not by their paths.

A run keeps the answer in its `partition.csv`: its own clips, and one row ("inherited") for each recording behind it, so
that it can be asked when the runs before it are gone. Runs written before that column existed are asked by what they
kept: the recordings that are still at their paths, and the runs behind them that are still there.
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
from birdnet_fs.data.copies import match_recordings, recording_of, with_fingerprints
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

PRETRAIN = "pretrain"  # folder of the run that a run's pretrain part made, in it or beside it


@dataclass(frozen=True)
class Provenance:
    """What a run was trained on.

    Attributes:
        own: The clips of its own training, labeled and pseudo-labeled.
        behind: Clips that the runs it started from or learned from were trained on.
    """

    own: tuple[Clip, ...] = ()
    behind: tuple[Clip, ...] = ()

    @property
    def labels(self) -> set[str]:
        """The classes in it."""
        return {label for clip in (*self.own, *self.behind) for label in clip.labels}

    def trained_on(self, clips: Sequence[Clip]) -> list[Clip]:
        """Those of `clips` that are of a recording in it, whatever the file is called and whichever part they are."""
        known = match_recordings(clips, (*self.own, *self.behind))
        return [clip for clip, same in zip(clips, known, strict=True) if same]


def provenance(run: Path) -> Provenance:
    """Read what a run was trained on; where it cannot be told in full, that is said.

    Args:
        run: A run folder, a checkpoint or an ensemble; an exported file holds nothing.

    Raises:
        UserError: A `partition.csv` is not as it was written.
    """
    if is_ensemble(run):
        members = [provenance(member.path) for member in load_ensemble(run).members]
        return Provenance(
            tuple(clip for member in members for clip in member.own),
            tuple(clip for member in members for clip in member.behind),
        )
    table = run / PARTITION
    if not table.is_file():
        say(f"{escaped(run)} holds no {PARTITION}, so it cannot be checked what it was trained on.")
        return Provenance()
    own, behind = read_partition(table, TRAIN, PSEUDO_LABELS), read_partition(table, INHERITED)
    if not has_fingerprints(table):
        say(
            f"{escaped(run)} was written before {PARTITION} held fingerprints: what it was trained on is compared by "
            "the recordings that are still at their paths, and by path where they are gone."
        )
        for one in _base_runs(run, {run}):
            behind += read_partition(one / PARTITION, TRAIN, PSEUDO_LABELS, INHERITED)
    return Provenance(own, behind)


def inherited(runs: Iterable[Path], own: Sequence[Clip] = ()) -> tuple[Clip, ...]:
    """What a new run keeps of what the runs behind it were trained on.

    Args:
        runs: The runs that it starts from, learns from or is labeled by.
        own: Its own clips; a recording of these is left out unless it has other labels here than any of them.

    Returns:
        One clip for each recording, with all labels it was trained on with.

    Raises:
        UserError: A `partition.csv` is not as it was written.
    """
    merged: dict[str, Clip] = {}
    found = [provenance(run) for run in dict.fromkeys(runs)]
    for clip in with_fingerprints(clip for one in found for clip in (*one.own, *one.behind)):
        key = recording_of(clip)
        first = merged.setdefault(key, Clip(clip.path, fingerprint=clip.fingerprint))
        if not set(clip.labels) <= set(first.labels):
            merged[key] = dataclasses.replace(first, labels=tuple(dict.fromkeys((*first.labels, *clip.labels))))
    clips, labels = list(merged.values()), {label for clip in own for label in clip.labels}
    known = match_recordings(clips, own)
    return tuple(c for c, same in zip(clips, known, strict=True) if not (same and labels.issuperset(c.labels)))


def refuse_trained_on(run: Path, parts: Partition, instead: str) -> None:
    """Refuse a run that was trained on what is validated on or held out here.

    Args:
        run: A run folder.
        parts: The clips here.
        instead: What to do, for the message.

    Raises:
        UserError: It was, or a run behind it; or it does not say what it was trained on.
    """
    if not (run / PARTITION).is_file():
        raise UserError(f"{escaped(run)} holds no {PARTITION}, which says what it was trained on; {instead}.")
    found = provenance(run)
    seen = found.trained_on((*parts.val, *parts.held_out))
    if seen:
        own = any(match_recordings(seen, found.own))
        raise UserError(
            f"{escaped(run)}{'' if own else ', through a run behind it,'} was trained on {len(seen)} clips that are "
            f"held out here (the first: {escaped(seen[0].path)}); {instead}."
        )


def labeling_runs(experiment: schema.Experiment) -> list[Path]:
    """The runs that labeled the windows of `pseudo_labels.table` and whose partition is still there."""
    table = pseudo_label_table.pseudo_label_table(experiment)
    runs = pseudo_label_table.labeling_runs(table) if table else ()
    return [run for run in runs if (run / CONFIG).is_file() and (run / PARTITION).is_file()]


def refuse_labels(experiment: schema.Experiment, parts: Partition) -> None:
    """Refuse pseudo-labels of a run that was trained on what is validated on or held out here.

    Args:
        experiment: Its `pseudo_labels.table` is meant.
        parts: The clips here.

    Raises:
        UserError: As `refuse_trained_on`.
    """
    table, known = pseudo_label_table.pseudo_label_table(experiment), labeling_runs(experiment)
    for run in known:
        refuse_trained_on(run, parts, f"label the windows of {table} with a run of the same fold")
    if table and (not known or len(known) < len(pseudo_label_table.labeling_runs(table))):
        say(f"What labeled {table} is not there to say what it was trained on; that must be nothing held out here.")


def _base_runs(run: Path, known: set[Path]) -> Iterator[Path]:
    """The runs that a run learned from, as far as they are still there."""
    experiment = load_run(run).experiment
    found = [Path(experiment.model.weights)] if experiment.model.weights else []
    if experiment.pretrain:
        first = [place for place in (run / PRETRAIN, run.parent / PRETRAIN) if (place / CONFIG).is_file()]
        found += [place for place in first if load_run(place).experiment.data == experiment.pretrain.data]
    with contextlib.suppress(UserError):  # moved since
        found += [teacher.path for teacher in teachers.load_teachers(experiment)]
    with contextlib.suppress(UserError):
        table = pseudo_label_table.pseudo_label_table(experiment)
        found += pseudo_label_table.labeling_runs(table) if table else ()
    for place in found:
        if place not in known and (place / CONFIG).is_file() and (place / PARTITION).is_file():
            known.add(place)
            yield place
            yield from _base_runs(place, known)


def held_out_clips(run: Run) -> tuple[Clip, ...]:
    """The clips a run never heard, as its `partition.csv` names them."""
    return read_partition(run.path / PARTITION, HELD_OUT)
