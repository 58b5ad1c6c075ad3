"""What a training makes smaller: the loss of the settings on the outputs of the network that it needs."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import torch
import torch.nn.functional as F

from birdnet_fs import models, schema
from birdnet_fs.models.heads import logit_scale
from birdnet_fs.runs.history import accuracy_columns
from birdnet_fs.training import cosine_losses, losses

# outputs and targets of a step -> which classes are true and which are called, bool [n_rows, n_classes] each
StepPredictions = Callable[[Any, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class DistillationTerm(Protocol):
    """What a teacher adds to the loss (distillation.py).

    Attributes:
        parameters: Trained beside the network's and dropped afterwards.
    """

    @property
    def parameters(self) -> Sequence[torch.nn.Parameter]: ...

    def forward(self, features: torch.Tensor, teacher_features: Sequence[torch.Tensor]) -> Any:
        """What the teacher says of a batch: its features, and what the batch holds beside clips and targets."""
        ...

    def loss(self, labels: torch.Tensor, outputs: Any, teacher_output: Any) -> torch.Tensor:
        """The whole loss from that of the labels, the network's outputs and what the teacher said."""
        ...

    def pop_means(self) -> dict[str, float]:
        """Columns of history.csv: means over the steps since the last call."""
        ...


@dataclass(frozen=True)
class Objective:
    """What training makes smaller, and what says how well it went.

    Attributes:
        network: What a step computes; it shares its weights with the model that is trained.
        loss: Of its output and the batch's targets.
        monitor: The column of `validate` that keep="best", early stopping and checkpoints go by; higher is better.
        predictions: What was true and what was called in a step, for the accuracy in training; None = no such columns.
        classes: Names in the order of the targets, for the accuracy of each; () = no such columns.
        distillation: What a teacher adds, or None.
    """

    network: keras.Model
    loss: losses.Loss
    monitor: str
    predictions: StepPredictions | None = None
    classes: tuple[str, ...] = ()
    distillation: DistillationTerm | None = None


class AccuracyCounter:
    """How many rows were called rightly, and of each class how often, counted where they are: no step waits for it."""

    def __init__(self) -> None:
        self._counts: torch.Tensor | None = None  # rows, right rows, then each class: rows with it, those called so

    def add(self, true: torch.Tensor, predicted: torch.Tensor) -> None:
        """Count rows [n, n_classes]."""
        right = (true == predicted).all(1)
        whole = torch.stack([torch.ones_like(right).sum(), right.sum()])
        counts = torch.cat([whole, true.sum(0), (true & predicted).sum(0)])
        self._counts = counts if self._counts is None else self._counts + counts

    def pop_means(self, classes: Sequence[str]) -> dict[str, float]:
        """`train_acc`, the accuracy of each class (nan where it did not occur), and a fresh start; {} of no rows."""
        if self._counts is None:
            return {}
        n, right, *rest = self._counts.tolist()
        self._counts = None
        half = len(rest) // 2
        each = [hit / rows if rows else math.nan for rows, hit in zip(rest[:half], rest[half:], strict=True)]
        return {"train_acc": right / n, **(accuracy_columns("train", classes, each) if classes else {})}


def supervised_objective(
    model: keras.Model,
    settings: schema.Training,
    *,
    multi_label: bool,
    class_weights: np.ndarray | None = None,
) -> Objective:
    """The objective of labeled clips; the best epoch is that of the highest `val_macro_auroc`.

    Args:
        model: The network.
        settings: Its `loss`, `margin`, `focal_gamma` and `frame_loss`.
        multi_label: Any number of classes a clip, else one.
        class_weights: [n_classes], or None.
    """
    weights = None
    if class_weights is not None:
        device = model.trainable_variables[0].value.device
        weights = torch.as_tensor(class_weights, dtype=torch.float32, device=device)
    loss = build_loss(settings, multi_label=multi_label, scale=logit_scale(model), weights=weights)
    network: keras.Model = model
    if settings.loss.frame_loss:
        network = models.with_outputs(model, ["logits", "frame_logits"])
        loss = losses.with_frames(loss, settings.loss.frame_loss)
    return Objective(network, loss, "val_macro_auroc", _thresholded_predictions if multi_label else _argmax_predictions)


def _argmax_predictions(outputs: Any, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The class with the largest target (a mixture has several) and the one with the highest logit."""
    logits = _logits(outputs)
    n_classes = logits.shape[1]
    return F.one_hot(targets.argmax(1), n_classes).bool(), F.one_hot(logits.argmax(1), n_classes).bool()


def _thresholded_predictions(outputs: Any, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes with a target and a probability of one half or more; neither where the target is not known."""
    return targets >= 0.5, (_logits(outputs) >= 0) & (targets >= 0)


def _logits(outputs: Any) -> torch.Tensor:
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs


def build_loss(
    settings: schema.Training, *, multi_label: bool, scale: float = 1.0, weights: losses.Weights = None
) -> Any:
    """The loss of logits that the settings name.

    Args:
        settings: Its `loss`, `margin` and `focal_gamma`.
        multi_label: What "auto" and "focal" mean: of sigmoids, else of a softmax.
        scale: What the network multiplies its cosines by (`heads.logit_scale`).
        weights: Of the classes.
    """
    if settings.loss.name in schema.ON_COSINES:
        margin = settings.loss.margin or schema.ON_COSINES[settings.loss.name].margin
        on_cosines = {"arcface": cosine_losses.arcface, "circle": cosine_losses.circle}[settings.loss.name]
        return functools.partial(on_cosines, scale=scale, margin=margin)
    loss: Any = losses.loss_by_name(settings.loss.name, multi_label=multi_label, weights=weights)
    return functools.partial(loss, gamma=settings.loss.focal_gamma) if settings.loss.name == "focal" else loss
