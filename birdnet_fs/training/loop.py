"""The training loop: an optimizer over the lowered network, mixed precision, global gradient clipping, weight average.

Weights are float32 whatever the precision of the arithmetic; weight decay (Loshchilov & Hutter 2019, decoupled)
acts on kernels only, not on biases and norms. A loss or gradient that is not finite stops the run, names the
recordings of the batch and leaves the weights of the last good epoch.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import torch

from birdnet_fs import schema
from birdnet_fs.batches.loader import Batch, TrainingBatches
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say, track
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.models.quantization.convert import is_quantized
from birdnet_fs.runs.history import Row, Weights
from birdnet_fs.runs.run import model_weights
from birdnet_fs.training import finetuning, optimizer
from birdnet_fs.training.objective import AccuracyCounter, Objective, supervised_objective
from birdnet_fs.training.qat import RangeSchedule
from birdnet_fs.training.schedule import Plateau, learning_rate

MAX_SKIPPED_STEPS = 50  # float16 steps in a row; scaling halves each time, 2 ** -50 is below any useful gradient
MIN_ROWS_FOR_STATISTICS = 50  # batches after which little of the old moving statistics is left: .9 ** 50 = .005
MAX_NAMED = 8  # recordings in a message
Validate = Callable[[], Row]
AfterEpoch = Callable[[list[Row], Weights], None]


class Interrupted(KeyboardInterrupt):
    """The person stopped the training; `weights` are of the last finished epoch, `history` of all finished ones."""

    def __init__(self, weights: Weights, history: list[Row]) -> None:
        super().__init__()
        self.weights, self.history = weights, history


class DivergedError(UserError):
    """Loss or gradient stopped being finite; `weights` are of the last good epoch, `history` is what came before."""

    def __init__(self, message: str, weights: Weights, history: list[Row]) -> None:
        super().__init__(message)
        self.weights, self.history = weights, history


@dataclass
class TrainedWeights:
    """What training gave: the kept weights by variable path, and one row of numbers per epoch."""

    weights: Weights
    history: list[Row] = field(default_factory=list)


def device_of(choice: str) -> str:
    """The torch device a setting means: "auto" takes a GPU when there is one.

    Raises:
        UserError: "cuda" without a GPU.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise UserError("training.device=cuda needs a GPU that torch can see; none was found. Use training.device=cpu.")
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

    Args:
        model: The network, on the device to train on.
        batches: Training data.
        settings: How to learn.
        multi_label: With `settings.loss.name == "auto"` sigmoid cross-entropy, else softmax.
        objective: What to make smaller; None = the loss of `settings` on the logits, the best `val_macro_auroc`.
        validate: Numbers on validation data for the model as it stands; one of them chooses the weights with
            `settings.checkpoints.select == "best"`, and ends the training after `settings.checkpoints.patience` epochs
            in which it got no better.
        after_epoch: Is given the rows of all finished epochs and the weights as they stand; the model holds those.

    Every row has epoch, train_loss, learning_rate (of the last step), what `validate` gives and seconds (since the
    start), with `objective.calls` train_acc (share of the rows whose calls are all right, as augmented), and with
    `objective.classes` the accuracy of each class (history.per_class_accuracy), with `objective.lesson` the parts of
    the loss.

    Raises:
        DivergedError: Loss, gradient or a moving statistic is NaN or infinite.
        Interrupted: The person stopped it.
        UserError: `settings.finetuning.freeze_blocks` is more than the network has.
    """
    if objective is None:
        objective = supervised_objective(model, settings, multi_label=multi_label)
    loop = _Loop(model, batches, settings, objective)
    fitted = TrainedWeights(weights={})
    try:
        _epochs(loop, fitted, validate, after_epoch, objective.monitor)
        if settings.optimizer.swa_epochs:
            loop.settle_statistics()
    except KeyboardInterrupt:
        raise Interrupted(fitted.weights or loop.good, fitted.history) from None
    if settings.checkpoints.select == "best" and not fitted.weights:
        say(f"{objective.monitor} was never defined (no class with and without positives), so the last weights are kept.")
    fitted.weights = fitted.weights or loop.good
    return fitted


def _epochs(
    loop: "_Loop", fitted: TrainedWeights, validate: Validate | None, after_epoch: AfterEpoch | None, column: str
) -> None:
    """Every epoch, its row in the history, and with keep="best" the weights of the best by one of its columns."""
    settings, n_batches = loop.settings, len(loop.batches)
    best, n_waited, started = -math.inf, 0, time.monotonic()
    for step, epoch, batch in loop.steps():
        try:
            loop.losses.append(loop.step(step, batch))
            if (step + 1) % n_batches:
                continue
            loop.finish_epoch(epoch)
        except FloatingPointError as error:
            message = loop.divergence(str(error), epoch, batch)
            raise DivergedError(message, fitted.weights or loop.good, fitted.history) from None
        row = {"epoch": epoch + 1, **loop.numbers(), "learning_rate": loop.rate}
        loop.good = loop.kept_weights()
        if validate is not None:
            with loop.averaged():
                row |= validate()
        row["seconds"] = round(time.monotonic() - started, 3)
        fitted.history.append(row)
        if validate is not None and not math.isnan(row[column]):  # an undefined number is neither better nor worse
            n_waited += 1
            if settings.schedule.name == "plateau":
                loop.plateau.update(row[column])
            if row[column] > best:
                best, n_waited = row[column], 0
                if settings.checkpoints.select == "best":
                    fitted.weights = loop.good
        if (epoch + 1) % max(1, settings.epochs // 10) == 0:
            shown = [f"{name} {value:.4g}" for name, value in row.items() if name != "epoch" and "/" not in name]
            say(f"epoch {epoch + 1}/{settings.epochs}: {', '.join(shown)}")
        if after_epoch is not None:
            with loop.averaged():
                after_epoch(fitted.history, loop.good)
        if settings.checkpoints.patience and n_waited >= settings.checkpoints.patience:
            say(
                f"{column} got no better for {settings.checkpoints.patience} epochs (training.checkpoints.patience), "
                "so training stops here."
            )
            return


class _Loop:
    def __init__(
        self, model: keras.Model, batches: TrainingBatches, settings: schema.Training, objective: Objective
    ) -> None:
        self.model, self.batches, self.settings = model, batches, settings
        self.objective = objective
        finetuning.freeze_blocks(model, settings.finetuning.freeze_blocks)
        self.forward = lower(objective.network)
        self.parameters = self._parameters()
        self.device = self.parameters[0].device
        self.optimizer = optimizer.build_optimizer(self._groups(), settings)
        self.plateau = Plateau(settings.schedule.plateau_factor, settings.schedule.plateau_patience)
        self.ranges = RangeSchedule(model, settings.epochs) if is_quantized(model) else None
        self.dtype = torch.float32 if self.ranges else _arithmetic(settings.precision, self.device.type)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.average = [v.value.detach().clone() for v in _state(model)] if settings.optimizer.ema else []
        self.last_epochs = optimizer.WeightAverage()
        self.statistics = [v.value.detach() for v in _state(model) if not v.trainable]
        self.skipped = 0
        self.good = self.kept_weights()  # of the last epoch after which everything was finite
        self.losses: list[float] = []
        self.tally = AccuracyCounter()
        self.rate = 0.0

    def _parameters(self) -> list[Any]:
        own = self.objective.distillation.parameters if self.objective.distillation else ()
        return [*(v.value for v in self.model.trainable_variables), *own]

    def _groups(self) -> list[dict[str, Any]]:
        settings = self.settings
        found = finetuning.parameter_groups(
            self.model, weight_decay=settings.optimizer.weight_decay, layer_decay=settings.finetuning.layer_decay
        )
        if self.objective.distillation and self.objective.distillation.parameters:
            own = list(self.objective.distillation.parameters)
            found.append({"params": own, "weight_decay": settings.optimizer.weight_decay, "factor": 1.0})
        return found

    def _unfreeze(self) -> None:
        """The frozen blocks learn from now on; what the optimizer knows of the others is kept."""
        known = {id(p) for p in self.parameters}
        finetuning.unfreeze(self.model)
        self.forward = lower(self.objective.network)
        self.parameters = self._parameters()
        for group in self._groups():
            group["params"] = [p for p in group["params"] if id(p) not in known]
            if group["params"]:
                self.optimizer.add_param_group(group)

    def finish_epoch(self, epoch: int) -> None:
        """What an epoch does to the weights beyond its steps: the mean of the last ones, the frozen blocks."""
        self.check_statistics()
        if self.settings.optimizer.swa_epochs and epoch >= self.settings.epochs - self.settings.optimizer.swa_epochs:
            self.last_epochs.update([v.value for v in _state(self.model)])
            self.average = self.last_epochs.tensors
        if epoch + 1 == self.settings.finetuning.unfreeze_epoch < self.settings.epochs:
            self._unfreeze()

    def settle_statistics(self) -> None:
        """BatchNorm's statistics under the mean weights, from a pass over the training data (Izmailov et al.)."""
        with self.averaged(), torch.no_grad():
            n_passes = -(-MIN_ROWS_FOR_STATISTICS // len(self.batches))
            for epoch in range(self.settings.epochs, self.settings.epochs + n_passes):
                for features, *_ in self.batches.epoch(epoch):
                    self.forward(features.to(self.device), training=True)
            self.good = model_weights(self.model)

    def steps(self) -> Iterator[tuple[int, int, Batch]]:
        n_batches = len(self.batches)
        every = (
            (epoch * n_batches + i, epoch, batch)
            for epoch in range(self.settings.epochs)
            for i, batch in enumerate(self.batches.epoch(epoch))
        )
        if self.ranges:
            self.ranges.calibrate(self.forward, self.batches, self.device)
        yield from track(every, "training", total=self.settings.epochs * n_batches, unit="step")

    def step(self, step: int, batch: Batch) -> float:
        if self.ranges:
            self.ranges.step(step // len(self.batches))
        features, targets, _, *heard = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        lesson = self.objective.distillation
        n_batches = len(self.batches)
        self.rate = learning_rate(
            step,
            peak=self.settings.learning_rate,
            n_steps=self.settings.epochs * n_batches,
            n_warmup=round(self.settings.schedule.warmup_epochs * n_batches),
            schedule=self.settings.schedule.name,
            minimum=self.settings.schedule.min_learning_rate,
            n_steps_per_drop=self.settings.schedule.step_epochs * n_batches,
            factor=self.settings.schedule.step_factor,
        )
        self.rate *= self.plateau.scale
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group["factor"]
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            outputs = self.forward(features, training=True)
            told = lesson.forward(features, heard) if lesson else None
        loss = self.objective.loss(outputs, targets, self.settings.loss.label_smoothing)
        if lesson:
            loss = lesson.loss(loss, outputs, told)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError("The loss")
        if self.objective.predictions is not None:
            with torch.no_grad():
                self.tally.add(*self.objective.predictions(outputs, targets))
        place, n_added = step % n_batches, self.settings.optimizer.accumulate
        if place % n_added == 0:
            self.optimizer.zero_grad(set_to_none=True)
        n_added = min(n_added, n_batches - place // n_added * n_added)  # fewer at the end of an epoch
        self.scaler.scale(loss / n_added).backward()
        if (place + 1) % self.settings.optimizer.accumulate and place + 1 < n_batches:
            return value
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.optimizer.clip_norm or math.inf)
        finite = bool(torch.isfinite(norm))
        self.skipped = 0 if finite else self.skipped + 1
        # loss scaling finds its scale by skipping steps that overflow; without it an overflow is the end
        if not finite and (not self.scaler.is_enabled() or self.skipped > MAX_SKIPPED_STEPS):
            raise FloatingPointError("The gradient")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.settings.optimizer.ema and finite:
            # a young average follows the weights closely, else it would hold on to the random start
            decay = min(self.settings.optimizer.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, [v.value.detach() for v in _state(self.model)], 1 - decay)
        return value

    def numbers(self) -> Row:
        """The mean loss of the steps since the last call, and how rightly they called."""
        parts = self.objective.distillation.pop_means() if self.objective.distillation else {}
        found = {"train_loss": float(np.mean(self.losses)), **parts, **self.tally.pop_means(self.objective.classes)}
        self.losses.clear()
        return found

    def check_statistics(self) -> None:
        """BatchNorm's moving statistics can overflow while the loss, which does not use them, stays finite."""
        if not all(bool(torch.isfinite(tensor).all()) for tensor in self.statistics):
            raise FloatingPointError("A moving statistic")

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """While inside, the model holds the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        if self.average:
            with torch.no_grad():
                for variable, average in zip(_state(self.model), self.average, strict=True):
                    own = variable.value.detach().clone()
                    variable.value.copy_(average)
                    average.copy_(own)

    def kept_weights(self) -> Weights:
        with self.averaged():
            return model_weights(self.model)

    def divergence(self, what: str, epoch: int, batch: Batch) -> str:
        paths = sorted({str(self.batches.clips[int(i)].path) for i in batch[2]})
        more = f" and {len(paths) - MAX_NAMED} more" if len(paths) > MAX_NAMED else ""
        return (
            f"{what} became NaN or infinite in epoch {epoch + 1}; training stopped and the last good weights were "
            f"kept. Lower training.learning_rate (now {self.settings.learning_rate:g}) or look at the recordings of "
            f"that batch: {', '.join(paths[:MAX_NAMED])}{more}"
        )


def _state(model: keras.Model) -> list[Any]:
    return [v for v in model.weights if "seed_generator" not in v.path]


def _arithmetic(precision: str, device: str) -> torch.dtype:
    if precision == "auto":
        return torch.bfloat16 if device == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return getattr(torch, precision)
