"""The training loop: AdamW over the lowered network, mixed precision, global gradient clipping, weight average.

Weights are float32 whatever the precision of the arithmetic; weight decay (Loshchilov & Hutter 2019, decoupled)
acts on kernels only, not on biases and norms. A loss that is not finite stops the run, names the recordings of
the batch and leaves the last good weights.
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
from birdnet_fs.models.lowering import lower
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.progress import say, track
from birdnet_fs.training import losses
from birdnet_fs.training.run_folder import weights_of
from birdnet_fs.training.schedule import learning_rate

Validate = Callable[[], dict[str, float]]
Weights = dict[str, np.ndarray]


class DivergedError(UserError):
    """The loss stopped being finite; `weights` are the last good ones and `history` what came before."""

    def __init__(self, message: str, weights: Weights, history: list[dict[str, float]]) -> None:
        super().__init__(message)
        self.weights, self.history = weights, history


@dataclass
class Fitted:
    """What training gave: the kept weights by variable path, and one row of numbers per epoch."""

    weights: Weights
    history: list[dict[str, float]] = field(default_factory=list)


def device_of(choice: str) -> str:
    """The torch device a setting means: "auto" takes a GPU when there is one.

    Raises:
        UserError: "cuda" without a GPU.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise UserError("training.device=cuda needs a GPU that torch can see; none was found. Use training.device=cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if choice == "auto" else choice


def fit(
    model: keras.Model,
    batches: TrainingBatches,
    settings: schema.Training,
    *,
    multi_label: bool,
    validate: Validate | None = None,
) -> Fitted:
    """Train `model` in place and return the weights to keep.

    Args:
        model: The network, on the device to train on.
        batches: Training data.
        settings: How to learn.
        multi_label: Sigmoid cross-entropy, else softmax.
        validate: Numbers on validation data for the model as it stands; with `settings.keep == "best"` its
            `val_macro_auroc` chooses the weights.

    Raises:
        DivergedError: The loss is NaN or infinite.
    """
    loop = _Loop(model, batches, settings, multi_label)
    fitted, best = Fitted(weights={}), -math.inf
    started = time.monotonic()
    for step, epoch, batch in loop.steps():
        loss = loop.step(step, batch)
        if not math.isfinite(loss):
            loop.undo_statistics()
            raise DivergedError(loop.divergence(epoch, batch), loop.kept_weights(), fitted.history)
        loop.losses.append(loss)
        if (step + 1) % len(batches):
            continue
        row: dict[str, float] = {"epoch": epoch + 1, "loss": float(np.mean(loop.losses)), "learning_rate": loop.rate}
        loop.losses.clear()
        if validate is not None:
            with loop.averaged():
                row |= validate()
        row["seconds"] = round(time.monotonic() - started, 3)
        fitted.history.append(row)
        if settings.keep == "best" and row["val_macro_auroc"] > best:
            best, fitted.weights = row["val_macro_auroc"], loop.kept_weights()
        if (epoch + 1) % max(1, settings.epochs // 10) == 0:
            say(
                f"epoch {epoch + 1}/{settings.epochs}: "
                + ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch")
            )
    if settings.keep == "last" or not fitted.weights:
        fitted.weights = loop.kept_weights()
    return fitted


class _Loop:
    def __init__(
        self, model: keras.Model, batches: TrainingBatches, settings: schema.Training, multi_label: bool
    ) -> None:
        self.model, self.batches, self.settings = model, batches, settings
        self.loss = losses.binary_cross_entropy if multi_label else losses.cross_entropy
        self.forward = lower(model)
        self.parameters = [v.value for v in model.trainable_variables]
        self.device = self.parameters[0].device
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
                {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
            ]
        )
        self.dtype = _arithmetic(settings.precision, self.device.type)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.average = [v.value.detach().clone() for v in _state(model)] if settings.ema else []
        # BatchNorm's moving statistics change in the forward pass, before the loss can be looked at
        self.statistics = [v.value.detach() for v in _state(model) if not v.trainable]
        self.statistics_before = [tensor.clone() for tensor in self.statistics]
        self.losses: list[float] = []
        self.rate = 0.0

    def steps(self) -> Iterator[tuple[int, int, Batch]]:
        n_batches = len(self.batches)
        every = (
            (epoch * n_batches + i, epoch, batch)
            for epoch in range(self.settings.epochs)
            for i, batch in enumerate(self.batches.epoch(epoch))
        )
        yield from track(every, "training", total=self.settings.epochs * n_batches, unit="step")

    def step(self, step: int, batch: Batch) -> float:
        features, targets, _ = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        n_batches = len(self.batches)
        self.rate = learning_rate(
            step,
            peak=self.settings.learning_rate,
            n_steps=self.settings.epochs * n_batches,
            n_warmup=round(self.settings.warmup_epochs * n_batches),
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        torch._foreach_copy_(self.statistics_before, self.statistics)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.forward(features, training=True)
        loss = self.loss(logits, targets, self.settings.label_smoothing)
        value = loss.item()
        if not math.isfinite(value):
            return value
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.settings.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            # a young average follows the weights closely, else it would hold on to the random start
            decay = min(self.settings.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, [v.value.detach() for v in _state(self.model)], 1 - decay)
        return value

    def undo_statistics(self) -> None:
        """Take back what the forward pass of a step that failed left in the moving statistics."""
        torch._foreach_copy_(self.statistics, self.statistics_before)

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
            return weights_of(self.model)

    def divergence(self, epoch: int, batch: Batch) -> str:
        paths = sorted({str(self.batches.clips[int(i)].path) for i in batch[2]})
        return (
            f"The loss became NaN or infinite in epoch {epoch + 1}; training stopped and the last good weights were "
            f"kept. Lower training.learning_rate (now {self.settings.learning_rate:g}) or look at the recordings of "
            f"that batch: {', '.join(paths)}"
        )


def _state(model: keras.Model) -> list[Any]:
    return [v for v in model.weights if "seed_generator" not in v.path]


def _arithmetic(precision: str, device: str) -> torch.dtype:
    if precision == "auto":
        return torch.bfloat16 if device == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return getattr(torch, precision)
