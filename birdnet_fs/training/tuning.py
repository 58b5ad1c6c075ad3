"""A worker of a study: it takes trials, trains them and says how they went.

A trial is trained like any run, on clips that are decoded once for all trials of the worker, and goes by the
validation clips: its value is that of its best epoch, and what is held out is never looked at.
"""

import contextlib
import dataclasses
import functools
import gc
import math
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError

from birdnet_fs import schema
from birdnet_fs.batches.waveforms import Waveforms
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.files import write_json
from birdnet_fs.recordings.manifest import Clip
from birdnet_fs.training import tracking
from birdnet_fs.training.fit import DivergedError, Row, device_of
from birdnet_fs.training.heartbeat import Beat, Watch
from birdnet_fs.training.partition import partition
from birdnet_fs.training.settled import finished, settled
from birdnet_fs.training.spaces import check_space, settings_of, trial_experiment
from birdnet_fs.training.study import SETTINGS, Study
from birdnet_fs.training.trainer import PRETRAIN, pretrain, train

LOG, TRIAL = "log.txt", "trial.json"
MOST_IN_VAIN = 12  # trials in a row without a number; then the fault is not theirs
Train = Callable[..., Any]  # trainer.train


def check_tuning(base: schema.Experiment, space: schema.Space) -> schema.Experiment:
    """What can be said before the first trial; gives the experiment as a run keeps it.

    Raises:
        UserError: The space does not fit the settings, there are no validation clips, or nothing can be trained here.
    """
    check_space(space, base)
    base = settled(base)
    device_of(base.training.device)
    tracking.check(base.training)
    if base.episodes and not base.episodes.n_val:
        raise UserError("Tuning goes by validation episodes, and there are none; set episodes.n_val (for example 200).")
    if not partition(base).val:
        raise UserError(
            "Tuning goes by validation clips, and there are none; set data.val_fraction (for example 0.2) or "
            "data.split=70/15/15."
        )
    return base


def forget() -> None:
    """Free what a trial leaves in memory."""
    keras.utils.clear_session(free_memory=False)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def work(
    study: Study,
    *,
    train_one: Train = train,
    forget: Callable[[], None] = forget,
    stop: threading.Event | None = None,
) -> None:
    """Train trials until none is left to start.

    Args:
        study: Where they are drawn and told.
        train_one: Trains one.
        forget: What follows each.
        stop: When set, no further epoch is trained.

    Raises:
        UserError: Many trials in a row came to nothing.
        KeyboardInterrupt: The person stopped it; the trial is tried again when the study goes on.
    """
    read, start = Decoded(), _pretrained(study)
    in_vain = 0
    while (trial := study.next()) is not None:
        best = _Best(study, trial, stop or threading.Event())
        reason = _attempt(study, trial, functools.partial(train_one, pretrained=start, read=read), best)
        forget()
        in_vain = in_vain + 1 if reason else 0
        if in_vain == MOST_IN_VAIN:
            raise UserError(
                f"{in_vain} trials in a row came to nothing, the last because: {reason} "
                f"(all of it: {study.place(trial.number) / LOG})"
            )


def _attempt(study: Study, trial: optuna.Trial, train_one: Train, best: "_Best") -> str:
    """Train one trial; why it came to nothing, or ""."""
    folder = study.place(trial.number)
    with (
        study.beat(trial),
        open(folder / LOG, "a", encoding="utf-8", buffering=1) as log,
        contextlib.redirect_stderr(log),
        contextlib.redirect_stdout(log),
    ):
        try:
            experiment = _settle(study, trial, folder)
            best.look()
            train_one(experiment, folder, watch=best.watch)
            best.look()
            study.finish(trial, best.value)
        except optuna.TrialPruned as ended:
            study.prune(trial, str(ended))
        except UpdateFinishedTrialError:
            print("Others took this process for dead; the trial is theirs now.")
        except DivergedError as error:
            study.fail(trial, str(error))
            return str(error)
        except UserError as error:
            (study.fail if best.n_epochs else study.prune)(trial, str(error))
            return str(error)
        except KeyboardInterrupt:
            study.interrupt(trial)
            raise
        except Exception as error:
            traceback.print_exc()
            study.fail(trial, f"{type(error).__name__}: {error}")
            return f"{type(error).__name__}: {error}"
    return ""


def _settle(study: Study, trial: optuna.Trial, folder: Path) -> schema.Experiment:
    settings = settings_of(study.space, study.base, trial.params)
    trial.set_user_attr(SETTINGS, settings)
    write_json(folder / TRIAL, {"trial": trial.number, "settings": settings})
    return trial_experiment(study.base, settings, name=f"{study.base.name}_trial{trial.number}")


class _Best:
    """What a trial is told by, epoch by epoch."""

    def __init__(self, study: Study, trial: optuna.Trial, stop: threading.Event) -> None:
        self.study, self.trial, self.stop = study, trial, stop
        self.n_epochs, self._value = 0, -math.inf
        self._column = ""

    def watch(self, column: str, history: Sequence[Row]) -> None:
        """Report the epoch that has just finished, and end a trial that is behind."""
        self.look()
        self.n_epochs, self._column = len(history), column
        value = history[-1].get(column, math.nan)
        if not math.isfinite(value):
            return
        self.study.remember_column(column)
        self._value = max(self._value, value)
        self.trial.report(value, step=self.n_epochs)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"behind the others after epoch {self.n_epochs}")

    def look(self) -> None:
        """End the trial when the command has stopped."""
        if self.stop.is_set():
            raise KeyboardInterrupt

    @property
    def value(self) -> float:
        if not math.isfinite(self._value):
            raise UserError(
                f"{self._column or 'The validation metric'} was never defined: validation needs clips with and without "
                "each of some classes."
            )
        return self._value


class Decoded:
    """Decodes clips once: `Waveforms` of the same clips at the same rate are those of before.

    Those of one rate are kept, since only a study that searches over the rate has others.
    """

    def __init__(self) -> None:
        self._rate_hz = 0
        self._kept: dict[tuple[Any, ...], Waveforms] = {}

    def __call__(self, clips: Sequence[Clip], sample_rate_hz: int) -> Waveforms:
        if sample_rate_hz != self._rate_hz:
            self._kept.clear()
            self._rate_hz = sample_rate_hz
        key = tuple((clip.path, clip.onset_s, clip.offset_s, clip.labels, clip.secondary) for clip in clips)
        if key not in self._kept:
            self._kept[key] = Waveforms(clips, sample_rate_hz)
        return self._kept[key]


def _pretrained(study: Study) -> Path | None:
    """The pretrained start of all trials, trained by one of the workers while the others wait."""
    if study.base.pretrain is None:
        return None
    folder, look = study.folder / PRETRAIN, Watch()
    sign = study.folder / f"{PRETRAIN}.json"
    first = study.base
    while not _is_pretrained(folder, first):
        try:
            os.close(os.open(sign, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            if look(sign) == "dead":
                sign.unlink(missing_ok=True)
            else:
                time.sleep(1.0)
            continue
        with Beat(sign):
            pretrain(first, folder)
    return folder


def _is_pretrained(folder: Path, experiment: schema.Experiment) -> bool:
    first = experiment.pretrain
    return first is not None and finished(
        folder, dataclasses.replace(first, seed=experiment.seed, debug=experiment.debug)
    )
