"""The training loop: epochs with validation, early stopping and a choice of the weights to keep.

A loss or gradient that is not finite stops the training; the error names the recordings of the batch and carries the
weights of the last good epoch.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import torch

from birdnet_fs import schema
from birdnet_fs.batches.loader import TrainingBatches
from birdnet_fs.core import stopping
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.runs.history import Row, Weights
from birdnet_fs.training.objective import Objective, supervised_objective
from birdnet_fs.training.training_state import TrainingState

SIGNAL_GRACE_S = 1.0  # a signal to a whole job may reach a process of the loader before this one
Validate = Callable[[], Row]
AfterEpoch = Callable[[list[Row], Weights], None]


class Interrupted(KeyboardInterrupt):
    """The user or a cluster stopped the training.

    Args:
        weights: Weights after the last finished batch, or of the best epoch with `checkpoints.select="best"`.
        history: Rows of all finished epochs.
        n_batches: Number of batches trained on; without any, the weights are the initial ones.
    """

    def __init__(self, weights: Weights, history: list[Row], n_batches: int = 0) -> None:
        super().__init__()
        self.weights, self.history, self.n_batches = weights, history, n_batches


class WorkerLostError(UserError):
    """A process that prepares batches was killed.

    Args:
        message: What happened and what to do.
        weights: As of `Interrupted`.
        history: Rows of all finished epochs.
        n_batches: Number of batches trained on.
    """

    def __init__(self, message: str, weights: Weights, history: list[Row], n_batches: int = 0) -> None:
        super().__init__(message)
        self.weights, self.history, self.n_batches = weights, history, n_batches


class DivergedError(UserError):
    """The loss, a gradient or a moving statistic is not finite.

    Args:
        message: What became infinite, in which epoch and recordings.
        weights: Weights of the last good epoch, or of the best one with `checkpoints.select="best"`.
        history: Rows of the epochs before.
    """

    def __init__(self, message: str, weights: Weights, history: list[Row]) -> None:
        super().__init__(message)
        self.weights, self.history = weights, history


@dataclass
class TrainedWeights:
    """Result of a training.

    Attributes:
        weights: The weights to keep, by variable path.
        history: One row of metrics per epoch.
    """

    weights: Weights
    history: list[Row] = field(default_factory=list)


def device_of(choice: str) -> str:
    """Return the torch device for a value of `training.device`.

    Args:
        choice: "auto", "cpu" or "cuda"; "auto" selects a GPU when there is one.

    Returns:
        "cpu" or "cuda".

    Raises:
        UserError: `choice` is "cuda" and torch finds no GPU.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise UserError("training.device=cuda needs a GPU that torch can use; none was found. Use training.device=cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if choice == "auto" else choice


def run_epochs(
    model: keras.Model,
    batches: TrainingBatches,
    settings: schema.Training,
    *,
    multi_label: bool = False,
    objective: Objective | None = None,
    validate: Validate | None = None,
    after_epoch: AfterEpoch | None = None,
    undefined_because: str = "",
) -> TrainedWeights:
    """Train `model` in place and return the weights to keep.

    Every row of the history has epoch, train_loss, learning_rate (of the last step), the columns of `validate` and
    seconds (since the start). With `objective.predictions` it has train_acc (fraction of correct rows, as augmented),
    with `objective.classes` the accuracy of each class, and with `objective.distillation` the parts of the loss.

    Args:
        model: The network, on the device to train on.
        batches: Training data.
        settings: Settings of the training.
        multi_label: Whether `settings.loss.name="auto"` means sigmoid instead of softmax cross-entropy. Not used with
            `objective`. Default: False.
        objective: What to minimize. None: the loss of `settings` on the logits, monitored by `val_macro_auroc`.
        validate: Returns metrics on validation data for the present weights. The monitored one chooses the weights with
            `settings.checkpoints.select="best"`, and ends the training after `settings.checkpoints.patience` epochs
            without improvement. None: no validation.
        after_epoch: Called with the rows of all finished epochs and the present weights, which the model holds during
            the call. None: nothing is called.
        undefined_because: Why the monitored metric is undefined, where that is known. It is printed once, in the first
            epoch without a value; such an epoch neither counts for `patience` or the plateau schedule nor is ranked.
            Default: "".

    Returns:
        The weights to keep and the history.

    Raises:
        DivergedError: The loss, a gradient or a moving statistic is NaN or infinite.
        Interrupted: The user or a signal stopped the training, at the end of a batch.
        WorkerLostError: A process that prepares batches was killed.
    """
    if objective is None:
        objective = supervised_objective(model, settings, multi_label=multi_label)
    state = TrainingState(model, batches, settings, objective)
    trained = TrainedWeights(weights={})
    try:
        _epochs(state, trained, validate, after_epoch, objective.monitor, undefined_because)
        if settings.optimizer.swa_epochs:
            state.update_statistics()
    except KeyboardInterrupt:
        raise Interrupted(trained.weights or state.latest(), trained.history, state.n_steps) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        given = (trained.weights or state.latest(), trained.history, state.n_steps)
        if stopping.received(SIGNAL_GRACE_S):  # one that was sent to all processes of the job
            raise Interrupted(*given) from None
        raise WorkerLostError(
            "A process that prepares batches was killed, often for lack of memory; use fewer training.workers (0: none)"
            " or a smaller training.batch_size.",
            *given,
        ) from None
    trained.weights = trained.weights or state.last_good
    return trained


def _epochs(
    state: TrainingState,
    trained: TrainedWeights,
    validate: Validate | None,
    after_epoch: AfterEpoch | None,
    monitor: str,
    undefined_because: str,
) -> None:
    """Run all epochs; append their rows to the history and keep the weights of the epoch with the largest `monitor`."""
    settings, n_batches = state.settings, len(state.batches)
    best, n_waited, n_undefined, stopped, started = -math.inf, 0, 0, False, time.monotonic()
    for step, epoch, batch in state.steps():
        try:
            with stopping.finished_first():
                state.losses.append(state.step(step, batch))
                state.n_steps = step + 1
            if (step + 1) % n_batches:
                continue
            state.finish_epoch(epoch)
            row = {"epoch": epoch + 1, **state.pop_metrics(), "learning_rate": state.rate}
            if validate is not None:
                with state.averaged():
                    row |= validate()
        except FloatingPointError as error:
            message = state.diverged_message(str(error), epoch, batch)
            raise DivergedError(message, trained.weights or state.last_good, trained.history) from None
        state.last_good = state.averaged_weights()
        row["seconds"] = round(time.monotonic() - started, 3)
        trained.history.append(row)
        if validate is not None and math.isnan(row[monitor]):  # an undefined metric is neither better nor worse
            n_undefined += 1
            if n_undefined == 1:
                say(_undefined(monitor, epoch, undefined_because, settings))
        elif validate is not None:
            n_waited += 1
            if settings.schedule.name == "plateau":
                state.plateau.update(row[monitor])
            if row[monitor] > best:
                best, n_waited = row[monitor], 0
                if settings.checkpoints.select == "best":
                    trained.weights = state.last_good
        if (epoch + 1) % max(1, settings.epochs // 10) == 0:
            shown = [f"{name} {value:.4g}" for name, value in row.items() if name != "epoch" and "/" not in name]
            say(f"epoch {epoch + 1}/{settings.epochs}: {', '.join(shown)}")
        if after_epoch is not None:
            with state.averaged():
                after_epoch(trained.history, state.last_good)
        if settings.checkpoints.patience and n_waited >= settings.checkpoints.patience and not stopped:
            stopped = True
            state.stop_early(epoch)
            say(
                f"{monitor} did not improve for {settings.checkpoints.patience} epochs "
                f"(training.checkpoints.patience); {_end(state.n_epochs - epoch - 1)}."
            )
        if epoch + 1 == state.n_epochs:
            return


def _end(n_left: int) -> str:
    if not n_left:
        return "training stops"
    return f"training stops after {n_left} more epochs, whose weights are averaged (training.optimizer.swa_epochs)"


def _undefined(monitor: str, epoch: int, because: str, settings: schema.Training) -> str:
    """A sentence on a monitored metric without a value and on the settings that have no effect by it."""
    chosen = settings.checkpoints
    idle = [
        *(["training.checkpoints.select=best"] if chosen.select == "best" else []),
        *(["training.checkpoints.patience"] if chosen.patience else []),
        *(["training.checkpoints.n_best"] if chosen.n_best else []),
        *(["training.schedule=plateau"] if settings.schedule.name == "plateau" else []),
    ]
    effect = f"; an epoch without it does not count for {', '.join(idle)}" if idle else ""
    last = " (if no epoch has a value, the weights of the last epoch are kept)" if chosen.select == "best" else ""
    return f"{monitor} is undefined in epoch {epoch + 1}{f': {because}' if because else ''}{effect}{last}."
