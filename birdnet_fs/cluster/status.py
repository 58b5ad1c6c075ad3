"""State of an output folder, read from its files and locks: shards, trainings, folds, studies, recordings."""

import csv
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from birdnet_fs.analysis.output import LEDGER
from birdnet_fs.analysis.resume import DONE
from birdnet_fs.cluster.jobs import queued
from birdnet_fs.cluster.plan import PLAN, log_file, read_plan, result_file, shards_folder, work_folder
from birdnet_fs.cluster.run import read_facts
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import holder
from birdnet_fs.core.text import escaped, unmark_formula
from birdnet_fs.runs.config_file import read_experiment
from birdnet_fs.runs.history import HISTORY, read_history
from birdnet_fs.runs.run import CONFIG, DIVERGED, INTERRUPTED, UNFINISHED, WEIGHTS
from birdnet_fs.schema import debugged
from birdnet_fs.search.kinds import STORE
from birdnet_fs.training.resume.state import STATE

DONE_STATES = ("done", "quarantined", "pruned", "impossible", "lost")  # nothing is left to do
AT_WORK = ("running", "queued")
_TAIL_BYTES = 4096


class Item(NamedTuple):
    """One row of the table; `n` is the number of things that it stands for."""

    name: str
    state: str  # done, running, queued, stopped, failed, missing, quarantined; of a trial, those of its summary
    detail: str = ""
    n: int = 1


def exit_status(items: Sequence[Item]) -> int:
    """Exit status of `birdnet-fs status`: 0 = all is done, 3 = something runs or waits, 1 = nothing does."""
    if all(item.state in DONE_STATES for item in items):
        return 0
    return 3 if any(item.state in AT_WORK for item in items) else 1


def read_status(folder: Path) -> tuple[str, list[Item]]:
    """Read the state of a folder.

    Args:
        folder: Output folder of a command.

    Returns:
        Kind of the folder, and the rows.

    Raises:
        UserError: The folder is of no known kind, or holds damaged files.
    """
    for shards in (folder, shards_folder(folder)):
        if (shards / PLAN).is_file():
            return "shards", [*_shards(shards, folder)]
    if (folder / "journal.log").is_file() and (folder / "space.json").is_file():
        return "study", _trials(folder)
    if folds := _folds(folder):
        return "cross-validation", folds
    if (folder / STORE).is_file():
        return "embedding store", _recordings(folder)
    if (folder / DONE).is_dir():
        return "analysis", _recordings(folder)
    if any((folder / name).exists() for name in (CONFIG, HISTORY, STATE, INTERRUPTED, UNFINISHED)) or holder(folder):
        return "training", [_training(folder, folder.name)]
    raise UserError(
        f"An output folder of cluster, analyze, embed, train, cv or tune was expected. Received: {escaped(folder)}"
    )


def last_line(log: Path) -> str:
    """Last line of a log that is not empty; "" where there is none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _shards(folder: Path, output: Path) -> Iterator[Item]:
    plan, waiting = read_plan(folder), queued(folder)
    n_done = 0
    for number, shard in enumerate(plan.shards):
        name, size = f"shard {number}", f"{shard.n_recordings} recordings, {shard.n_bytes:,} bytes"
        try:
            facts = read_facts(result_file(folder, number), plan)["recordings"]
        except UserError as error:
            facts, damaged = None, str(error)
        if facts is not None:
            n_done += 1
            bad = sum(each["outcome"]["status"] == "quarantined" for each in facts)
            yield Item(name, "done", f"{size}{f', {bad} quarantined' if bad else ''}")
        elif by := holder(work_folder(folder, number)):
            yield Item(name, "running", f"{size}; {by}")
        elif number in waiting:
            yield Item(name, "queued", f"{size}; {waiting[number]}")
        elif result_file(folder, number).is_file():
            yield Item(name, "failed", damaged)
        elif line := last_line(log_file(folder, number)):
            yield Item(name, "failed", line)
        else:
            yield Item(name, "missing", size)
    output = folder.with_name(folder.name.removesuffix(".shards")) if output == folder else output
    whole = (output / LEDGER).is_file() and n_done == len(plan.shards)
    by = holder(output)
    yield Item("merged", "running" if by else "done" if whole else "missing", by or str(output))


def _folds(folder: Path) -> list[Item]:
    """Folds of a cross-validation; those that no job has begun are known from the settings of the others."""
    found = sorted(path for path in folder.glob("fold*") if re.fullmatch(r"fold\d+", path.name))
    found += sorted(path for path in folder.glob("seed*/fold*") if re.fullmatch(r"seed-?\d+", path.parent.name))
    begun = {os.fspath(path.relative_to(folder)): _training(path, str(path.relative_to(folder))) for path in found}
    if not begun:
        return []
    n_folds = max((n for path in found if (n := _n_folds(path))), default=0)
    for parent in dict.fromkeys(path.parent for path in found):
        for number in range(n_folds):
            path = parent / f"fold{number}"
            name = os.fspath(path.relative_to(folder))
            if name not in begun:
                by = holder(path)
                begun[name] = Item(name, "running" if by else "missing", by or "not begun")
    collected = Item("cv.json", "done" if (folder / "cv.json").is_file() else "missing", "all folds together")
    return [*(begun[name] for name in sorted(begun)), collected]


def _n_folds(run: Path) -> int:
    try:
        return int(read_experiment(run / CONFIG).data.n_folds) if (run / CONFIG).is_file() else 0
    except UserError:
        return 0


def _training(folder: Path, name: str) -> Item:
    n_done = len(read_history(folder / HISTORY)) or len(read_history(folder / UNFINISHED / HISTORY))
    of = ""
    if (folder / CONFIG).is_file():
        experiment = debugged(read_experiment(folder / CONFIG))
        of = "" if experiment.model.encoder else f" of {experiment.training.epochs}"  # heads have a number of their own
    epochs = f"{n_done}{of} epochs"
    if by := holder(folder):
        return Item(name, "running", f"{n_done} epochs; {by}")
    if (folder / STATE).is_dir():
        return Item(name, "stopped", f"{n_done} epochs; the same command goes on")
    if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
        return Item(name, "done", epochs)
    if (folder / DIVERGED).is_dir():
        return Item(
            name, "failed", f"it diverged after {n_done} epochs; {folder / DIVERGED} holds the last good weights"
        )
    if (folder / INTERRUPTED).is_dir() or n_done:
        return Item(name, "stopped", f"{n_done} epochs, without a state; the same command trains it from the beginning")
    return Item(name, "missing", "not begun")


def _trials(folder: Path) -> list[Item]:
    try:
        from birdnet_fs.tuning.study import ALIVE, TRIALS, read_study
        from birdnet_fs.tuning.trial_summary import summaries
    except ImportError:
        raise UserError("A study needs the library optuna; pip install 'birdnet_fs[tune]'.") from None
    found = []
    for trial in summaries(read_study(folder)):
        detail = trial.reason or ("" if trial.value is None else f"{trial.value:.4f} at epoch {trial.best_epoch}")
        state = {"finished": "done", "waiting": "missing"}.get(trial.state, trial.state)
        if state == "running" and not (folder / TRIALS / f"{trial.number:04d}" / ALIVE).is_file():
            state, detail = "stopped", "its process has ended; the same command tries it again"
        found.append(Item(f"trial {trial.number}", state, detail))
    return found


def _recordings(folder: Path) -> list[Item]:
    """Recordings of an analysis or a store, from its ledger; one row for all that are done."""
    by = holder(folder)
    rows: list[dict[str, str]] = []
    if (folder / LEDGER).is_file():
        with open(folder / LEDGER, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("status")]
    done = [row for row in rows if row["status"] != "quarantined"]
    hours = sum(float(row["duration_s"] or 0) for row in done) / 3600
    found = [Item("recordings", "done", f"{len(done)} with {hours:.2f} h", len(done))] if done else []
    found += [
        Item(unmark_formula(row["path"]), "quarantined", unmark_formula(row["reason"]))
        for row in rows
        if row["status"] == "quarantined"
    ]
    if by:
        return [*found, Item("the command", "running", by)]
    whole = (folder / STORE).is_file() or (folder / DONE / "combined").is_file()
    if not whole or not rows:
        found.append(Item("the rest", "stopped", "the same command goes on"))
    return found
