"""One process of a study: it starts trials, trains them and reports their values.

A trial is trained like any run, on clips that are decoded once for all trials of the process. Its value is that of its
best epoch on the validation clips; held-out clips are not used.
"""

import contextlib
import functools
import gc
import math
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from birdnet_fs import schema
from birdnet_fs.batches.cache.waveforms import waveform_reader
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.partition import PARTITION, partition, write_partition
from birdnet_fs.data.waveforms import Read, Waveforms
from birdnet_fs.runs.history import Row
from birdnet_fs.runs.inputs import input_changes, training_inputs, write_inputs
from birdnet_fs.runs.resolve import resolved
from birdnet_fs.training.loop import DivergedError, device_of
from birdnet_fs.training.prepare import undefined_validation
from birdnet_fs.training.tracking import tracker
from birdnet_fs.training.trainer import PRETRAIN, pretrain, train
from birdnet_fs.tuning.liveness import exclusive
from birdnet_fs.tuning.space import check_space, settings_of, trial_experiment
from birdnet_fs.tuning.study import Study
from birdnet_fs.tuning.trial_summary import SETTINGS

LOG, TRIAL = "log.txt", "trial.json"
MAX_CONSECUTIVE_FAILURES = 12  # trials without a value; so many in a row have another cause than their settings
Train = Callable[..., Any]  # with the arguments of trainer.train
train_trial = functools.partial(train, rescue=False)  # the weights of one trial are not worth another place


def check_tuning(base: schema.Experiment, space: schema.Space) -> schema.Experiment:
    """Check, before the first trial, everything that can be checked.

    Args:
        base: The experiment that is tuned.
        space: The search space.

    Returns:
        The experiment with resolved settings.

    Raises:
        UserError: There is nothing to validate on, or the metric that compares trials is undefined there. Errors of the
            space and of the settings are passed on.
    """
    check_space(space, base)
    base = resolved(base)
    device_of(base.training.device)
    tracker.check_tracking(base.training)
    if base.episodes and not base.episodes.n_val:
        raise UserError("Tuning needs validation episodes, and episodes.n_val is 0; set it (for example 200).")
    parts = partition(base)
    if not parts.val:
        raise UserError(
            "Tuning needs validation clips, and there are none; set data.val_fraction (for example 0.2) or "
            "data.split=70/15/15."
        )
    if because := undefined_validation(base, parts):
        raise UserError(
            f"Tuning compares trials by val_macro_auroc, which is undefined on the {len(parts.val)} validation clips: "
            f"{because}. Set a larger data.val_fraction, or another data.split."
        )
    return base


def keep_or_compare_inputs(study: Study) -> None:
    """Store what the trials of a new study are trained from, and refuse to continue a study of something else.

    Args:
        study: The study.

    Raises:
        UserError: Labels or recordings have changed since the study began.
    """
    if not (study.folder / PARTITION).is_file() and not study.trials():
        parts = partition(study.base)
        write_inputs(study.folder, training_inputs(study.base, parts))
        write_partition(study.folder / PARTITION, parts.with_fingerprints())
    elif changes := input_changes(study.folder, study.base):
        raise UserError(
            f"{study.folder} holds a study of other labels or recordings ({', '.join(changes)}); choose another folder "
            "with -o."
        )


def free_memory() -> None:
    """Free the memory of the previous trial, on the GPU too."""
    keras.utils.clear_session(free_memory=False)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def work(
    study: Study,
    *,
    train_one: Train = train_trial,
    free_memory: Callable[[], None] = free_memory,
    stop: threading.Event | None = None,
) -> None:
    """Train trials until none is left to start.

    A KeyboardInterrupt ends the trial; it is tried again when the study continues.

    Args:
        study: The study.
        train_one: Trains one trial, with the arguments of `trainer.train`. Default: `train_trial`.
        free_memory: Called after each trial. Default: `free_memory`.
        stop: Interrupts the trial after its epoch when set. Default: an event that is never set.

    Raises:
        UserError: Many trials in a row failed.
    """
    stop = stop or threading.Event()
    read = decode_once(waveform_reader(study.base.data))
    train_one = functools.partial(train_one, pretrained=_pretrained(study), read=read)
    n_failures = 0
    while (trial := study.next()) is not None:
        log_file = study.trial_folder(trial.number) / LOG
        with (
            study.alive(trial),
            open(log_file, "a", encoding="utf-8", buffering=1) as log,
            contextlib.redirect_stderr(log),
            contextlib.redirect_stdout(log),
        ):
            failure = _run_trial(study, trial, train_one, stop)
        free_memory()
        n_failures = n_failures + 1 if failure else 0
        if n_failures == MAX_CONSECUTIVE_FAILURES:
            raise UserError(f"{n_failures} trials in a row failed, the last with: {failure} (see {log_file})")


def _run_trial(study: Study, trial: optuna.Trial, train_one: Train, stop: threading.Event) -> str:
    """Train one trial and report it to the study; the reason why it has no value, or ""."""
    epochs: list[float] = []

    def watch(column: str, history: Sequence[Row]) -> None:
        """Report the epochs that have just finished; end the trial when it is worse than the others."""
        _check(stop)
        study.remember_column(column)
        for row in history[len(epochs) :]:  # several where it goes on from the state of another process
            epochs.append(row.get(column, math.nan))
            if math.isfinite(epochs[-1]):
                trial.report(epochs[-1], step=len(epochs))
        if epochs and math.isfinite(epochs[-1]) and trial.should_prune():
            raise optuna.TrialPruned(f"worse than the other trials after epoch {len(epochs)}")

    try:
        folder, settings = study.trial_folder(trial.number), settings_of(study.space, study.base, trial.params)
        trial.set_user_attr(SETTINGS, settings)
        write_json(folder / TRIAL, {"trial": trial.number, "settings": settings})
        experiment = trial_experiment(study.base, settings, name=f"{study.base.name}_trial{trial.number}")
        _check(stop)
        train_one(experiment, folder, watch=watch)
        _check(stop)
        values = [value for value in epochs if math.isfinite(value)]
        if not values:
            raise UserError(
                f"{study.column} was undefined in every epoch: validation needs clips with and without a class."
            )
        study.tell(trial, TrialState.COMPLETE, value=max(values))
    except optuna.TrialPruned as pruned:
        study.tell(trial, TrialState.PRUNED, reason=str(pruned))
    except UpdateFinishedTrialError:
        print("Another process considered this one gone and has taken over the trial.")
    except KeyboardInterrupt:
        study.interrupt(trial)
        raise
    except UserError as error:  # before the first epoch: settings that exclude one another
        excluded = not epochs and not isinstance(error, DivergedError)
        study.tell(trial, TrialState.PRUNED if excluded else TrialState.FAIL, reason=str(error))
        return str(error)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        study.tell(trial, TrialState.FAIL, reason=reason)
        return reason
    return ""


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise KeyboardInterrupt


def decode_once(decode: Read = Waveforms) -> Read:
    """Make a `read` for `trainer.train` that decodes the same clips at the same rate only once.

    Waveforms of one sample rate are kept, since only a study that searches over the rate has others.

    Args:
        decode: Decodes clips, or reads them from a cache. Default: `Waveforms`.

    Returns:
        The function.
    """
    decoded: dict[tuple[Any, ...], Waveforms] = {}

    def read(clips: Sequence[Clip], sample_rate_hz: int) -> Waveforms:
        if any(waveforms.sample_rate_hz != sample_rate_hz for waveforms in decoded.values()):
            decoded.clear()
        key = tuple((clip.path, clip.onset_s, clip.offset_s, clip.labels, clip.secondary) for clip in clips)
        if key not in decoded:
            decoded[key] = decode(clips, sample_rate_hz)
        return decoded[key]

    return read


def _pretrained(study: Study) -> Path | None:
    """The pretrained run from which all trials start; one process trains it while the others wait."""
    if study.base.pretrain is None:
        return None
    with exclusive(study.folder / PRETRAIN):
        return pretrain(study.base, study.folder / PRETRAIN)
