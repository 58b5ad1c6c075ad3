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
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.runs.history import Row, Weights
from birdnet_fs.training.objective import Objective, supervised_objective
from birdnet_fs.training.training_state import TrainingState

Validate = Callable[[], Row]
AfterEpoch = Callable[[list[Row], Weights], None]


class Interrupted(KeyboardInterrupt):
    """The user stopped the training.

    Args:
        weights: Weights of the last finished epoch, or of the best one with `checkpoints.select="best"`.
        history: Rows of all finished epochs.
    """

    def __init__(self, weights: Weights, history: list[Row]) -> None:
        super().__init__()
        self.weights, self.history = weights, history


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

    Returns:
        The weights to keep and the history.

    Raises:
        DivergedError: The loss, a gradient or a moving statistic is NaN or infinite.
        Interrupted: The user stopped the training.
    """
    if objective is None:
        objective = supervised_objective(model, settings, multi_label=multi_label)
    state = TrainingState(model, batches, settings, objective)
    trained = TrainedWeights(weights={})
    try:
        _epochs(state, trained, validate, after_epoch, objective.monitor)
        if settings.optimizer.swa_epochs:
            state.update_statistics()
    except KeyboardInterrupt:
        raise Interrupted(trained.weights or state.last_good, trained.history) from None
    if settings.checkpoints.select == "best" and not trained.weights:
        say(
            f"{objective.monitor} was undefined in every epoch (no class has positives and negatives); the weights of "
            "the last epoch are kept."
        )
    trained.weights = trained.weights or state.last_good
    return trained


def _epochs(
    state: TrainingState,
    trained: TrainedWeights,
    validate: Validate | None,
    after_epoch: AfterEpoch | None,
    monitor: str,
) -> None:
    """Run all epochs; append their rows to the history and keep the weights of the epoch with the largest `monitor`."""
    settings, n_batches = state.settings, len(state.batches)
    best, n_waited, started = -math.inf, 0, time.monotonic()
    for step, epoch, batch in state.steps():
        try:
            state.losses.append(state.step(step, batch))
            if (step + 1) % n_batches:
                continue
            state.finish_epoch(epoch)
        except FloatingPointError as error:
            message = state.diverged_message(str(error), epoch, batch)
            raise DivergedError(message, trained.weights or state.last_good, trained.history) from None
        row = {"epoch": epoch + 1, **state.pop_metrics(), "learning_rate": state.rate}
        state.last_good = state.averaged_weights()
        if validate is not None:
            with state.averaged():
                row |= validate()
        row["seconds"] = round(time.monotonic() - started, 3)
        trained.history.append(row)
        if validate is not None and not math.isnan(row[monitor]):  # an undefined metric is neither better nor worse
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
        if settings.checkpoints.patience and n_waited >= settings.checkpoints.patience:
            say(
                f"{monitor} did not improve for {settings.checkpoints.patience} epochs "
                "(training.checkpoints.patience); training stops."
            )
            return
