"""What a run has heard in training, by itself and through the runs that it started from or was taught by.

A run that learnt from clips which are held out somewhere must not have a part in what is measured on them.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from birdnet_fs import schema
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.progress import say
from birdnet_fs.training import pseudo, teachers
from birdnet_fs.training.partition import PARTITION, PSEUDO, TRAIN, Partition, read_partition
from birdnet_fs.training.run_folder import CONFIG, load_run

PRETRAIN = "pretrain"  # folder of the run that a run's pretrain part made, in it or beside it


def refuse_heard(run: Path, parts: Partition, instead: str) -> None:
    """Refuse a run that has heard what is validated on or held out here.

    Args:
        run: Its folder.
        parts: The clips here.
        instead: What to do, for the message.

    Raises:
        UserError: It has, or a run behind it; or it is no run, or does not say what it was trained on.
    """
    away = {clip.path for clip in (*parts.val, *parts.held_out)}
    for one in (run, *_behind(run, {run})):
        heard = (*read_partition(one / PARTITION, TRAIN), *read_partition(one / PARTITION, PSEUDO))
        seen = [clip for clip in heard if clip.path in away]
        if seen:
            through = "" if one == run else f", behind {run},"
            raise UserError(
                f"{one}{through} was trained on {len(seen)} clips that are held out here (the first: {seen[0].path}); "
                f"{instead}."
            )


def refuse_labels(experiment: schema.Experiment, parts: Partition) -> None:
    """Refuse windows (`pseudo_labels.table`) that a run labelled which has heard what is validated on or held out here.

    Raises:
        UserError: As `refuse_heard`.
    """
    table = pseudo.table_of(experiment)
    runs = pseudo.labelled_by(table) if table else ()
    known = [run for run in runs if (run / CONFIG).is_file() and (run / PARTITION).is_file()]
    for run in known:
        refuse_heard(run, parts, f"label the windows of {table} with a run of the same fold")
    if not known or len(known) < len(runs):
        say(f"What labelled {table} is not there to say what it was trained on; that must be nothing held out here.")


def _behind(run: Path, known: set[Path]) -> Iterator[Path]:
    """The runs that a run learnt from, as far as they are still there."""
    experiment = load_run(run).experiment
    found = [Path(experiment.model.weights)] if experiment.model.weights else []
    if experiment.pretrain:
        first = [place for place in (run / PRETRAIN, run.parent / PRETRAIN) if (place / CONFIG).is_file()]
        found += [place for place in first if load_run(place).experiment.data == experiment.pretrain.data]
    with contextlib.suppress(UserError):  # moved since
        found += [teacher.path for teacher in teachers.teachers(experiment)]
    with contextlib.suppress(UserError):
        table = pseudo.table_of(experiment)
        found += pseudo.labelled_by(table) if table else ()
    for place in found:
        if place not in known and (place / CONFIG).is_file() and (place / PARTITION).is_file():
            known.add(place)
            yield place
            yield from _behind(place, known)
