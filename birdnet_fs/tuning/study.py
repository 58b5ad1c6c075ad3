"""The folder of a study, on which processes of one machine, or of many that share the folder, work together.

    journal.log   the trials, written by Optuna's JournalStorage (append-only, a lock file, good over NFS)
    base.json     the experiment that is tuned
    space.json    what is searched
    trials/0007   a trial: trial.json (settings), history.csv, log.txt; a run folder when it was trained to its end

Optuna (Akiba et al. 2019, https://arxiv.org/abs/1907.10902) stores, draws and prunes. Its loop `study.optimize` is not
used: it counts the trials of one process (with `MaxTrialsCallback(6)` four processes trained 9), fails on a trial that
another process has taken over, does not try again what was interrupted, and a journal has no heartbeats. Draws are
keyed on (seed, number of draws before), so that a study that was stopped continues as if it had not been.
"""

import contextlib
import json
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
from birdnet_fs.core.random_streams import Stream, integer_seed
from birdnet_fs.core.renamed import CLASSES, translated
from birdnet_fs.core.settings import flat, from_dict, to_dict
from birdnet_fs.runs.config_file import read_experiment
from birdnet_fs.runs.resolve import comparable, portable
from birdnet_fs.runs.run import CHECKPOINTS, WEIGHTS
from birdnet_fs.tuning.liveness import GRACE_S, claim, exclusive, kept_touched, last_touched
from birdnet_fs.tuning.space import distributions
from birdnet_fs.tuning.trial_summary import LOST, REASON, RETRY, TrialSummary, best_first, summaries

JOURNAL, BASE, SPACE, TRIALS = "journal.log", "base.json", "space.json", "trials"
ALIVE, DRAW, NAME, COLUMN = "alive.json", "draw", "study", "column"
MAX_RETRIES = 2  # of settings whose process was killed: they may be the cause
POLL_S = 1.0
REDUCTION_FACTOR = 3  # of hyperband: one trial in three continues
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


class Study:
    """A study that one process works on.

    Args:
        folder: Made when absent.
        base: The experiment that is tuned, as a run keeps it.
        space: What is searched, and how.
        n_trials: Total over all processes, trained to their end or pruned. Default: that of the space.
        n_kept: Number of best trials whose weights are kept.
        grace_s: Seconds without a sign of life after which another process is considered gone.

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
            try:
                self._study = optuna.load_study(study_name=NAME, storage=self._storage)
            except KeyError:
                self._study = optuna.create_study(study_name=NAME, storage=self._storage, direction="maximize")
        self._study.pruner = _pruner(space, schema.debugged(base).training.epochs)

    def trial_folder(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / TRIALS / f"{number:04d}"

    def trials(self) -> list[TrialSummary]:
        """All trials, by number."""
        return summaries(self._study)

    @property
    def n_missing(self) -> int:
        """Number of trials that have not ended yet, of `n_trials`."""
        return max(0, self.n_trials - len(self._study.get_trials(deepcopy=False, states=COUNTED)))

    @property
    def column(self) -> str:
        """The history column that trials are compared by; "value" until it is known."""
        return str(self._study.user_attrs.get(COLUMN, "value"))

    def remember_column(self, column: str) -> None:
        """Keep the name of the history column that trials are compared by."""
        if self.column != column:
            self._study.set_user_attr(COLUMN, column)

    def next(self) -> Trial | None:
        """Start a trial, or retry one whose process has ended.

        Where only trials that other processes are training are missing, wait until each of these was seen to be alive
        and leave them to it.

        Returns:
            The trial, to be trained inside `alive`; None when there is none left to start.
        """
        first_touched: dict[int, float] = {}
        while True:
            with exclusive(self.folder / DRAW) as now_s:
                n_running, all_alive = 0, True
                for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                    touched_s = last_touched(self.trial_folder(trial.number) / ALIVE)
                    if now_s - touched_s > self.grace_s:
                        self._retry(trial, "its process ended without a word (killed, or out of memory)")
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
        """Show other processes, while the block runs, that a trial is being trained."""
        path = self.trial_folder(trial.number) / ALIVE
        try:
            with kept_touched(path, self.grace_s):
                yield
        finally:
            path.unlink(missing_ok=True)

    def tell(self, trial: Trial, state: TrialState, *, value: float | None = None, reason: str = "") -> None:
        """End a trial, unless another process has considered this one gone and retried it.

        Args:
            trial: It is running.
            state: COMPLETE (`value` is needed); PRUNED, also when its settings exclude one another; or FAIL, which does
                not count as one of `n_trials`.
            value: Of its best epoch.
            reason: Why it did not finish.
        """
        with contextlib.suppress(UpdateFinishedTrialError):
            if reason:
                trial.set_user_attr(REASON, reason)
            self._study.tell(trial, value, state, skip_if_finished=True)
        self._tidy(trial.number)

    def interrupt(self, trial: Trial) -> None:
        """End a trial that the user has stopped; its settings are tried when the study continues."""
        with exclusive(self.folder / DRAW):
            self._retry(self._storage.get_trial(trial._trial_id), "interrupted", counts=False)
        self._tidy(trial.number)

    def _ask_sampler(self) -> Trial:
        n_drawn = sum(RETRY not in trial.user_attrs for trial in self._study.get_trials(deepcopy=False))
        kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        self._study.sampler = kinds[self.space.sampler](seed=integer_seed(self.base.seed, Stream.TRIALS, n_drawn))
        trial = self._study.ask(self._distributions)
        claim(self.trial_folder(trial.number) / ALIVE)
        return trial

    def _retry(self, trial: FrozenTrial, reason: str, *, counts: bool = True) -> None:
        """Fail a trial for what is no fault of its settings, and queue these again."""
        n_retries = int(trial.user_attrs.get(RETRY, 0)) + counts
        try:
            self._storage.set_trial_user_attr(trial._trial_id, REASON, reason)
            self._storage.set_trial_user_attr(trial._trial_id, LOST, True)
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return
        (self.trial_folder(trial.number) / ALIVE).unlink(missing_ok=True)
        if n_retries <= MAX_RETRIES and len(trial.params) == len(self._distributions):
            self._study.enqueue_trial(trial.params, user_attrs={RETRY: n_retries})

    def _tidy(self, number: int) -> None:
        """Remove weights of this trial that are of no use, and those of trials that are no longer among the best."""
        for name in ("diverged", "interrupted", CHECKPOINTS):
            shutil.rmtree(self.trial_folder(number) / name, ignore_errors=True)
        for trial in best_first(self.trials())[self.n_kept :]:
            (self.trial_folder(trial.number) / WEIGHTS).unlink(missing_ok=True)


def open_journal(folder: Path) -> JournalStorage:
    """The journal of a study, made when absent, without half a last line that a killed process or a full disk left.

    Optuna would append to that half line, and refuse the whole journal from then on.

    Raises:
        UserError: It is damaged.
    """
    file = folder / JOURNAL
    optuna.logging.set_verbosity(optuna.logging.ERROR)
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


def _pruner(space: schema.Space, n_epochs: int) -> optuna.pruners.BasePruner:
    """Steps are finished epochs, from 1."""
    if space.pruner == "none":
        return optuna.pruners.NopPruner()
    if space.pruner == "median":
        return optuna.pruners.MedianPruner(space.n_startup_trials, space.n_warmup_epochs)
    searched = space.values.get("training.epochs")
    options = (
        () if searched is None else searched.options if isinstance(searched, schema.Categorical) else (searched.high,)
    )
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
            f"{file.parent} holds a study with {kind} (the first that differs: {key}={new.get(key, 'nothing')}); give "
            "another folder with -o, or the same settings to go on with it."
        )


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    return dict(flat(comparable(from_dict(schema.Experiment, translated(value)))))


def _current_kinds(value: dict[str, Any]) -> dict[str, Any]:
    """A stored search space with the classes' present names."""
    return {key: {**values, "kind": CLASSES.get(values["kind"], values["kind"])} for key, values in value.items()}
