"""The folder of a study, shared by processes of one machine or of several.

    journal.log   the trials, written by Optuna's JournalStorage (append-only, with a lock file, works over NFS)
    base.json     the experiment that is tuned
    space.json    the search space
    trials/0007   a trial: trial.json (settings), history.csv, log.txt; a run folder when it was trained to its end

A trial that was stopped, or whose process was killed, is tried again under another number, which takes over the state
of its training (`training.resume`) and goes on from there.

Optuna (Akiba et al. 2019, https://arxiv.org/abs/1907.10902) stores, draws and prunes. `study.optimize` is not used: it
counts the trials of one process (with `MaxTrialsCallback(6)` four processes trained 9), fails on a trial that another
has taken over, and retries none that was interrupted; and a journal has no heartbeats. Draws depend on (seed, number of
earlier draws), so that a study that was stopped continues as if it had not been.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.leftovers import remove_leftovers
from birdnet_fs.core.random_streams import Stream, integer_seed
from birdnet_fs.core.renamed import CLASSES, translated
from birdnet_fs.core.settings import flat, from_dict, to_dict
from birdnet_fs.runs.config_file import read_experiment
from birdnet_fs.runs.resolve import comparable, portable
from birdnet_fs.runs.run import CHECKPOINTS, DIVERGED, INTERRUPTED, UNFINISHED, WEIGHTS
from birdnet_fs.training.resume.state import STATE
from birdnet_fs.tuning.liveness import GRACE_S, claim, exclusive, kept_touched, last_touched
from birdnet_fs.tuning.space import distributions
from birdnet_fs.tuning.trial_summary import CONTINUES, LOST, REASON, RETRY, TrialSummary, best_first, summaries

JOURNAL, BASE, SPACE, TRIALS = "journal.log", "base.json", "space.json", "trials"
ALIVE, DRAW, NAME, COLUMN = "alive.json", "draw", "study", "column"
MAX_RETRIES = 2  # retries of a trial whose process was killed; its settings may be the cause
POLL_S = 1.0
REDUCTION_FACTOR = 3  # hyperband continues one trial in three
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


class Study:
    """A study that one process works on.

    A UserError is raised when the folder holds another study, or a damaged journal.

    Args:
        folder: Folder of the study; created when absent.
        base: The experiment that is tuned, with resolved settings.
        space: The search space with sampler and pruner.
        n_trials: Number of trials over all processes that are trained to their end or pruned. Default: that of the
            space.
        n_kept: Number of best trials whose weights are kept. Default: 3.
        grace_s: Seconds without a touched file after which another process is considered gone. Default: 120.
    """

    def __init__(
        self,
        folder: Path,
        base: schema.Experiment,
        space: schema.Space,
        *,
        n_trials: int | None = None,
        n_kept: int = 3,
        grace_s: float = GRACE_S,
    ) -> None:
        self.folder, self.base, self.space = folder, base, space
        self.n_trials, self.n_kept, self.grace_s = n_trials or space.n_trials, n_kept, grace_s
        self._distributions = distributions(space)
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / DRAW):
            _keep_or_compare(folder / BASE, to_dict(portable(base)), "other settings", _flat)
            _keep_or_compare(folder / SPACE, space.to_dict(), "another search space", _current_kinds)
            self._storage = open_journal(folder)
            try:  # to create a study that exists would append to the journal
                self._study = optuna.load_study(study_name=NAME, storage=self._storage)
            except KeyError:
                self._study = optuna.create_study(study_name=NAME, storage=self._storage, direction="maximize")
        self._study.pruner = _pruner(space, schema.debugged(base).training.epochs)

    def trial_folder(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.folder / TRIALS / f"{number:04d}"

    def trials(self) -> list[TrialSummary]:
        """Summarize all trials, by number."""
        return summaries(self._study)

    @property
    def n_missing(self) -> int:
        """Number of trials that have not ended yet, of `n_trials`."""
        return max(0, self.n_trials - len(self._study.get_trials(deepcopy=False, states=COUNTED)))

    @property
    def column(self) -> str:
        """History column by which trials are compared; "value" until it is known."""
        return str(self._study.user_attrs.get(COLUMN, "value"))

    def remember_column(self, column: str) -> None:
        """Store the name of the history column by which trials are compared."""
        if self.column != column:
            self._study.set_user_attr(COLUMN, column)

    def next(self) -> Trial | None:
        """Start a trial, or retry one whose process has ended.

        When only trials of other processes are missing, wait until each of these processes was seen to be alive, and
        leave the trials to them.

        Returns:
            The trial, to be trained inside `alive`; None when none is left.
        """
        first_touched: dict[int, float] = {}
        while True:
            with exclusive(self.folder / DRAW) as now_s:
                n_running, all_alive = 0, True
                for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                    touched_s = last_touched(self.trial_folder(trial.number) / ALIVE)
                    if now_s - touched_s > self.grace_s:
                        self._retry(trial, "its process was killed, or out of memory")
                        continue
                    n_running += 1
                    all_alive &= first_touched.setdefault(trial.number, touched_s) != touched_s
                if n_running < self.n_missing:
                    return self._ask_sampler()
                if self.n_missing == 0 or all_alive:
                    return None
            time.sleep(POLL_S)

    @contextlib.contextmanager
    def alive(self, trial: Trial) -> Iterator[None]:
        """Show other processes, while the block runs, that a trial is being trained.

        Args:
            trial: The trial.

        Yields:
            Nothing.
        """
        path = self.trial_folder(trial.number) / ALIVE
        try:
            with kept_touched(path, self.grace_s):
                yield
        finally:
            path.unlink(missing_ok=True)

    def tell(self, trial: Trial, state: TrialState, *, value: float | None = None, reason: str = "") -> None:
        """End a trial, unless another process has considered this one gone and retried it.

        Args:
            trial: A running trial.
            state: COMPLETE, with `value`; PRUNED, also when its settings exclude one another; or FAIL, which does not
                count as one of `n_trials`.
            value: Value of its best epoch. Default: None.
            reason: Reason for an unfinished trial. Default: "".
        """
        with contextlib.suppress(UpdateFinishedTrialError):
            if reason:
                trial.set_user_attr(REASON, reason)
            self._study.tell(trial, value, state, skip_if_finished=True)
        self._tidy(trial.number)

    def interrupt(self, trial: Trial) -> None:
        """End a trial that the user has stopped; its settings are tried again when the study continues."""
        with exclusive(self.folder / DRAW):
            self._retry(self._storage.get_trial(trial._trial_id), "interrupted", counts=False)

    def _ask_sampler(self) -> Trial:
        n_drawn = sum(RETRY not in trial.user_attrs for trial in self._study.get_trials(deepcopy=False))
        kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        self._study.sampler = kinds[self.space.sampler](seed=integer_seed(self.base.seed, Stream.TRIALS, n_drawn))
        trial = self._study.ask(self._distributions)
        folder = self.trial_folder(trial.number)
        claim(folder / ALIVE)
        if (lost := trial.user_attrs.get(CONTINUES)) is not None and (self.trial_folder(lost) / STATE).is_dir():
            (folder / STATE).parent.mkdir(exist_ok=True)
            os.rename(self.trial_folder(lost) / STATE, folder / STATE)
            self._tidy(lost)
        return trial

    def _retry(self, trial: FrozenTrial, reason: str, *, counts: bool = True) -> None:
        """Fail a trial for a reason other than its settings, and queue the settings again."""
        n_retries = int(trial.user_attrs.get(RETRY, 0)) + counts
        try:
            self._storage.set_trial_user_attr(trial._trial_id, REASON, reason)
            self._storage.set_trial_user_attr(trial._trial_id, LOST, True)
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return
        (self.trial_folder(trial.number) / ALIVE).unlink(missing_ok=True)
        remove_leftovers(self.trial_folder(trial.number), recursive=True)
        if n_retries <= MAX_RETRIES and len(trial.params) == len(self._distributions):
            self._study.enqueue_trial(trial.params, user_attrs={RETRY: n_retries, CONTINUES: trial.number})
        else:
            self._tidy(trial.number)

    def _tidy(self, number: int) -> None:
        """Remove unused weights of this trial, and the weights of trials that are no longer among the best."""
        for name in (DIVERGED, INTERRUPTED, CHECKPOINTS, UNFINISHED):
            shutil.rmtree(self.trial_folder(number) / name, ignore_errors=True)
        for trial in best_first(self.trials())[self.n_kept :]:
            (self.trial_folder(trial.number) / WEIGHTS).unlink(missing_ok=True)


def open_journal(folder: Path) -> JournalStorage:
    """Open the journal of a study, and create it when absent.

    An incomplete last line, left by a killed process or a full disk, is removed: Optuna would append to it and refuse
    the whole journal from then on.

    Args:
        folder: Folder of the study.

    Returns:
        The storage.

    Raises:
        UserError: The journal is damaged.
    """
    file = folder / JOURNAL
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Optuna's default, a link as lock, needs a privilege on Windows and is never released for a relative path
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
            f"{file} is damaged ({type(error).__name__}: {error}); restore a copy of it, or start a study in another "
            "folder with -o."
        ) from error


def read_study(folder: Path) -> optuna.Study:
    """Open the study of a folder, to look at its trials.

    Args:
        folder: Folder of the study.

    Returns:
        Optuna's study.

    Raises:
        UserError: There is none.
    """
    if not (folder / JOURNAL).is_file() or not (folder / BASE).is_file():
        raise UserError(f"A study with {JOURNAL} and {BASE} was expected at {folder}; birdnet-fs tune writes one.")
    try:
        return optuna.load_study(study_name=NAME, storage=open_journal(folder))
    except KeyError:
        raise UserError(f"{folder / JOURNAL} holds no study; birdnet-fs tune writes one.") from None


def read_base(folder: Path) -> schema.Experiment:
    """Read the experiment that a study tunes."""
    return read_experiment(folder / BASE)


def _pruner(space: schema.Space, n_epochs: int) -> optuna.pruners.BasePruner:
    """The pruner of a space; its steps are finished epochs, from 1."""
    if space.pruner == "none":
        return optuna.pruners.NopPruner()
    if space.pruner == "median":
        return optuna.pruners.MedianPruner(space.n_startup_trials, space.n_warmup_epochs)
    searched = space.values.get("training.epochs")
    options = searched.options if isinstance(searched, schema.Categorical) else (searched.high,) if searched else ()
    max_epochs = int(max([n_epochs, *options]))
    return optuna.pruners.HyperbandPruner(min(space.n_warmup_epochs, max_epochs), max_epochs, REDUCTION_FACTOR)


def _keep_or_compare(
    file: Path, value: dict[str, Any], kind: str, settings_of: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    if not file.is_file():
        write_json(file, value)
        return
    old, new = settings_of(json.loads(file.read_text(encoding="utf-8"))), settings_of(json.loads(json.dumps(value)))
    key = next((key for key in {**new, **old} if new.get(key) != old.get(key)), None)
    if key is not None:
        raise UserError(
            f"{file.parent} holds a study with {kind} (the first that differs: {key}={new.get(key, 'nothing')}); "
            "choose another folder with -o, or the same settings to continue it."
        )


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    return dict(flat(comparable(from_dict(schema.Experiment, translated(value)))))


def _current_kinds(value: dict[str, Any]) -> dict[str, Any]:
    """A stored search space with the present names of its classes."""
    return {key: {**values, "kind": CLASSES.get(values["kind"], values["kind"])} for key, values in value.items()}
