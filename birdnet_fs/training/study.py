"""The folder of a study: who tries what, on one machine or on many that share the folder, and what came out.

    journal.log   what was tried, written by Optuna's JournalStorage (append-only, a lock file, good over NFS)
    base.json     the experiment that is tuned
    space.json    what is searched
    trials/0007   a trial: trial.json (settings), history.csv, log.txt; a run folder when it was trained to its end

Draws are keyed on (seed, how many there were before), so that a study that was stopped goes on as if it had not been.
Optuna: Akiba et al. 2019, https://arxiv.org/abs/1907.10902.
"""

import contextlib
import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from birdnet_fs import schema
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.files import write_json
from birdnet_fs.plumbing.random_streams import Stream, integer_seed
from birdnet_fs.plumbing.renamed import CLASSES, translated
from birdnet_fs.plumbing.settings import from_dict, show, to_dict
from birdnet_fs.training.config_file import read_experiment
from birdnet_fs.training.heartbeat import BEAT_S, GRACE_S, Beat, Watch
from birdnet_fs.training.run_folder import CHECKPOINTS, WEIGHTS
from birdnet_fs.training.settled import comparable
from birdnet_fs.training.spaces import distributions

JOURNAL, BASE, SPACE, TRIALS = "journal.log", "base.json", "space.json", "trials"
BEAT, NAME, COLUMN = "alive.json", "study", "column"
AGAIN, REASON, LOST, SETTINGS = "again", "reason", "lost", "settings"  # what a trial says of itself
MOST_AGAIN = 2  # times that settings are tried again whose process died: they may be what killed it
LOOK_S = 1.0  # from one look at what others do to the next
HALVING = 3  # of hyperband: one in three goes on
_COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclasses.dataclass(frozen=True)
class Tried:
    """A trial as it stands."""

    number: int
    state: str  # finished, pruned, impossible, failed, lost, running or waiting
    value: float | None  # of its best epoch
    best_epoch: int | None  # from 1
    values: dict[int, float]  # by epoch
    seconds: float | None
    reason: str  # why it did not finish
    params: dict[str, Any]  # what was drawn
    settings: tuple[str, ...]  # key=value, drawn and derived

    @property
    def over(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state not in ("running", "waiting")

    @property
    def counts(self) -> bool:
        """Whether it is one of the trials that were asked for."""
        return self.state in ("finished", "pruned", "impossible")


class Study:
    """A study that one process works on.

    Args:
        folder: Made when absent.
        base: The experiment that is tuned, as a run keeps it.
        space: What is searched, and how.
        n_trials: In all, trained to their end or pruned; None = that of the space.
        kept: Of the best trials the weights stay.
        beat_s: From one sign of life to the next; grace_s: without one until a process is taken for dead.

    Raises:
        UserError: The folder holds another study, or its journal is damaged.
    """

    def __init__(
        self,
        folder: Path,
        base: schema.Experiment,
        space: schema.Space,
        *,
        n_trials: int | None = None,
        kept: int = 3,
        beat_s: float = BEAT_S,
        grace_s: float = GRACE_S,
    ) -> None:
        self.folder, self.base, self.space = folder, base, space
        self.n_trials, self.kept = n_trials or space.n_trials, kept
        self.beat_s, self._watch = beat_s, Watch(grace_s=grace_s)
        self._distributions = distributions(space)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = JournalFileOpenLock(str(folder / "draw"))
        with self._alone():
            _keep_or_compare(folder / BASE, to_dict(comparable(base)), "other settings", _setting_lines)
            _keep_or_compare(folder / SPACE, space.to_dict(), "another search space", _space_lines)
            self._storage = open_journal(folder)
            try:
                self._study = optuna.load_study(study_name=NAME, storage=self._storage)
            except KeyError:
                self._study = optuna.create_study(study_name=NAME, storage=self._storage, direction="maximize")
        self._study.pruner = _pruner(space, schema.debugged(base).training.epochs)

    def place(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / TRIALS / f"{number:04d}"

    def trials(self) -> list[Tried]:
        """All trials, by number."""
        return [tried(trial) for trial in self._study.get_trials(deepcopy=False)]

    @property
    def n_counted(self) -> int:
        """How many of the trials that were asked for there are."""
        return sum(trial.counts for trial in self.trials())

    def remember_column(self, column: str) -> None:
        """Keep the name of what the trials go by."""
        if self._study.user_attrs.get(COLUMN) != column:
            self._study.set_user_attr(COLUMN, column)

    def next(self) -> Trial | None:
        """A trial to train, alive from now on for `beat` to say; None when none is left to start.

        What a dead process was training comes again. Where all that is missing is being trained by others, it waits
        until it has seen that they live, and leaves the rest to them.
        """
        while True:
            with self._alone():
                trials = self._study.get_trials(deepcopy=False)
                running = [trial for trial in trials if trial.state == TrialState.RUNNING]
                states = {trial.number: self._watch(self.place(trial.number) / BEAT) for trial in running}
                dead = [trial for trial in running if states[trial.number] == "dead"]
                for trial in dead:
                    self._again(trial, "its process ended without a word (killed, or out of memory)")
                n_done = sum(trial.state in _COUNTED for trial in trials)
                if n_done >= self.n_trials:
                    return None
                if n_done + len(running) - len(dead) < self.n_trials:
                    return self._ask(sum(AGAIN not in trial.user_attrs for trial in trials))
                if "unknown" not in states.values():
                    return None
            time.sleep(LOOK_S)

    def beat(self, trial: Trial) -> Beat:
        """A context that says that a trial is being trained."""
        return Beat(self.place(trial.number) / BEAT, every_s=self.beat_s)

    def finish(self, trial: Trial, value: float) -> None:
        """The trial was trained to its end."""
        self._study.tell(trial, value, skip_if_finished=True)
        self._tidy(trial.number)

    def prune(self, trial: Trial, reason: str) -> None:
        """The trial was ended early, or its settings exclude one another."""
        self._tell(trial, TrialState.PRUNED, reason)

    def fail(self, trial: Trial, reason: str) -> None:
        """The trial went wrong; it is not one of `n_trials`."""
        self._tell(trial, TrialState.FAIL, reason)

    def interrupt(self, trial: Trial) -> None:
        """The person stopped the trial; its settings are tried when the study goes on."""
        with self._alone():
            self._again(self._storage.get_trial(trial._trial_id), "interrupted", counts=False)
        self._tidy(trial.number)

    def _tell(self, trial: Trial, state: TrialState, reason: str) -> None:
        with contextlib.suppress(UpdateFinishedTrialError):  # others took this process for dead
            trial.set_user_attr(REASON, reason)
            self._study.tell(trial, state=state, skip_if_finished=True)
        self._tidy(trial.number)

    def _ask(self, n_drawn: int) -> Trial:
        kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        self._study.sampler = kinds[self.space.sampler](seed=integer_seed(self.base.seed, Stream.TRIALS, n_drawn))
        return self._study.ask(self._distributions)

    def _again(self, trial: FrozenTrial, reason: str, *, counts: bool = True) -> None:
        """Fail a trial for what is no fault of its settings, and put these up again."""
        n_again = int(trial.user_attrs.get(AGAIN, 0)) + counts
        try:
            self._storage.set_trial_user_attr(trial._trial_id, REASON, reason)
            self._storage.set_trial_user_attr(trial._trial_id, LOST, True)
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return
        (self.place(trial.number) / BEAT).unlink(missing_ok=True)
        if n_again <= MOST_AGAIN and len(trial.params) == len(self._distributions):
            self._study.enqueue_trial(trial.params, user_attrs={AGAIN: n_again})

    def _tidy(self, number: int) -> None:
        """Weights of this trial that are of no use, and those of trials that are no longer among the best."""
        for name in ("diverged", "interrupted", CHECKPOINTS):
            shutil.rmtree(self.place(number) / name, ignore_errors=True)
        for trial in best_first(self.trials())[self.kept :]:
            (self.place(trial.number) / WEIGHTS).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time sees who is alive and draws."""
        self._lock.acquire()
        try:
            yield
        finally:
            with contextlib.suppress(RuntimeError):  # it was held for so long that another took it
                self._lock.release()


def open_journal(folder: Path) -> JournalStorage:
    """The journal of a study, made when absent, without half a last line that a killed process or a full disk left.

    Raises:
        UserError: It is damaged.
    """
    file = folder / JOURNAL
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # a link as lock, Optuna's default, needs a privilege on Windows, and from a relative path it never gets free
    lock = JournalFileOpenLock(str(file))
    if file.is_file():
        lock.acquire()
        try:
            with open(file, "rb+") as journal:
                written = journal.read()
                journal.truncate(written.rfind(b"\n") + 1)
        finally:
            lock.release()
    try:
        return JournalStorage(JournalFileBackend(str(file), lock_obj=lock))
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise UserError(
            f"{file} is damaged ({type(error).__name__}: {error}); put a copy of it back, or start a study in another "
            "folder with -o."
        ) from error


def read_study(folder: Path) -> optuna.Study:
    """The study of a folder as Optuna sees it, to look at.

    Raises:
        UserError: There is none.
    """
    if not (folder / JOURNAL).is_file() or not (folder / BASE).is_file():
        raise UserError(f"A study with {JOURNAL} and {BASE} was expected at {folder}; birdnet-fs tune makes one.")
    try:
        return optuna.load_study(study_name=NAME, storage=open_journal(folder))
    except KeyError:
        raise UserError(f"{folder / JOURNAL} holds no study; birdnet-fs tune makes one.") from None


def read_base(folder: Path) -> schema.Experiment:
    """The experiment that a study tunes."""
    return read_experiment(folder / BASE)


def tried(trial: FrozenTrial) -> Tried:
    """What is to be said of a trial of Optuna's."""
    values = {epoch: value for epoch, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)}
    best = max(values, key=values.__getitem__, default=None)
    states = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned" if values else "impossible"}
    states |= {TrialState.FAIL: "lost" if trial.user_attrs.get(LOST) else "failed"}
    return Tried(
        number=trial.number,
        state=states.get(trial.state, trial.state.name.lower()),
        value=None if best is None else values[best],
        best_epoch=best,
        values=values,
        seconds=trial.duration.total_seconds() if trial.duration else None,
        reason=str(trial.user_attrs.get(REASON, "")),
        params=dict(trial.params),
        settings=tuple(trial.user_attrs.get(SETTINGS, ())),
    )


def best_first(trials: Sequence[Tried]) -> list[Tried]:
    """Those that were trained to their end, the highest value first; of equal ones the earlier."""
    finished = [trial for trial in trials if trial.state == "finished" and trial.value is not None]
    return sorted(finished, key=lambda trial: (-(trial.value or 0.0), trial.number))


def options_of(study: optuna.Study) -> dict[str, list[str]]:
    """The options of each setting that has some, in the order of the space."""
    found: dict[str, list[str]] = {}
    for trial in study.get_trials(deepcopy=False):
        for key, values in trial.distributions.items():
            if isinstance(values, CategoricalDistribution):
                found.setdefault(key, [str(option) for option in values.choices])
    return found


def _pruner(space: schema.Space, n_epochs: int) -> optuna.pruners.BasePruner:
    """Steps are finished epochs, from 1."""
    if space.pruner == "none":
        return optuna.pruners.NopPruner()
    if space.pruner == "median":
        return optuna.pruners.MedianPruner(space.n_startup_trials, space.n_warmup_epochs)
    most = max([n_epochs, *_highest(space.values.get("training.epochs"))])
    return optuna.pruners.HyperbandPruner(min(space.n_warmup_epochs, most), most, HALVING)


def _highest(values: schema.Float | schema.Int | schema.Categorical | None) -> list[int]:
    if values is None:
        return []
    return [int(max(values.options))] if isinstance(values, schema.Categorical) else [int(values.high)]


def _keep_or_compare(file: Path, value: dict[str, Any], what: str, lines: Callable[[Any], list[str]]) -> None:
    if not file.is_file():
        write_json(file, value)
        return
    old, new = lines(json.loads(file.read_text(encoding="utf-8"))), lines(json.loads(json.dumps(value)))
    differ = [line for line in new if line not in old] or [line for line in old if line not in new]
    if differ:
        raise UserError(
            f"{file.parent} holds a study with {what} (the first that differs: {differ[0]}); give another folder with "
            "-o, or the same settings to go on with it."
        )


def _setting_lines(value: dict[str, Any]) -> list[str]:
    return show(comparable(from_dict(schema.Experiment, translated(value)))).split("\n")


def _space_lines(value: dict[str, Any]) -> list[str]:
    named = {key: {**values, "kind": CLASSES.get(values["kind"], values["kind"])} for key, values in value.items()}
    return [f"{key} {json.dumps(values)}" for key, values in named.items()]
