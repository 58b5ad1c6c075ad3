"""The objective of a training: a network, a loss of its outputs and the metric that ranks epochs."""

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

# (outputs, targets) of a step -> true classes and predicted classes, each bool [n_rows, n_classes]
StepPredictions = Callable[[Any, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class DistillationTerm(Protocol):
    """Part of the loss that a teacher adds (`distillation.DistillationLoss`)."""

    @property
    def parameters(self) -> Sequence[torch.nn.Parameter]:
        """Weights that are trained with the network and dropped afterwards."""
        ...

    def forward(self, features: torch.Tensor, teacher_features: Sequence[torch.Tensor]) -> Any:
        """Compute the outputs of the teacher for one batch.

        Args:
            features: float32 [batch, n_frames, n_mels, n_channels], those of the student.
            teacher_features: Further tensors [batch, ...] of the batch that teachers need.

        Returns:
            The outputs, for `loss`.
        """
        ...

    def loss(self, labels: torch.Tensor, outputs: Any, teacher_output: Any) -> torch.Tensor:
        """Combine the loss of the labels with that of the teacher.

        Args:
            labels: Loss of the labels, a scalar.
            outputs: Outputs of the network, [batch, ...] each.
            teacher_output: Result of `forward`.

        Returns:
            The whole loss, a scalar.
        """
        ...

    def pop_means(self) -> dict[str, float]:
        """Return columns of history.csv, means over the steps since the last call."""
        ...

    def open_sums(self) -> tuple[dict[str, torch.Tensor], int]:
        """The sums of `pop_means`, scalars [] by column, and the number of their steps."""
        ...

    def set_sums(self, sums: dict[str, torch.Tensor], n_steps: int) -> None:
        """Go on from the result of `open_sums`: scalars [] by column, and the number of their steps."""
        ...


@dataclass(frozen=True)
class Objective:
    """Loss that a training minimizes, and the metric that ranks its epochs.

    Attributes:
        network: Network computed in each step; it shares its weights with the trained model.
        loss: Loss of its outputs and the targets of the batch.
        monitor: History column used to rank epochs; larger is better.
        predictions: Returns true and predicted classes of a step, for the accuracy in training; None: no such columns.
        classes: Names in the order of the targets, for the accuracy of each class; (): no such columns.
        distillation: Part of the loss that a teacher adds, or None.
    """

    network: keras.Model
    loss: losses.Loss
    monitor: str
    predictions: StepPredictions | None = None
    classes: tuple[str, ...] = ()
    distillation: DistillationTerm | None = None


class AccuracyCounter:
    """Counts of correct predictions, kept on the device so that no step waits for them."""

    def __init__(self) -> None:
        self._counts: torch.Tensor | None = (
            None  # rows, correct rows; for each class its rows, then those predicted correctly
        )

    def add(self, true: torch.Tensor, predicted: torch.Tensor) -> None:
        """Count rows of true and predicted classes, each bool [n_rows, n_classes]."""
        right = (true == predicted).all(1)
        whole = torch.stack([torch.ones_like(right).sum(), right.sum()])
        counts = torch.cat([whole, true.sum(0), (true & predicted).sum(0)])
        self._counts = counts if self._counts is None else self._counts + counts

    def open_counts(self) -> torch.Tensor | None:
        """The counts since the last call of `pop_means`, int64 [2 + 2 * n_classes]; None before the first rows."""
        return self._counts

    def set_counts(self, counts: torch.Tensor | None) -> None:
        """Go on from the result of `open_counts`, int64 [2 + 2 * n_classes]."""
        self._counts = counts

    def pop_means(self, classes: Sequence[str]) -> dict[str, float]:
        """Return `train_acc` and the accuracy of each class (NaN where it did not occur), and reset the counts.

        Args:
            classes: Names of the classes; empty for `train_acc` only.

        Returns:
            Columns of history.csv; none when no rows were counted.
        """
        if self._counts is None:
            return {}
        n, right, *rest = self._counts.tolist()
        self._counts = None
        half = len(rest) // 2
        each = [n_hits / rows if rows else math.nan for rows, n_hits in zip(rest[:half], rest[half:], strict=True)]
        return {"train_acc": right / n, **(accuracy_columns("train", classes, each) if classes else {})}


def supervised_objective(
    model: keras.Model,
    settings: schema.Training,
    *,
    multi_label: bool,
    class_weights: np.ndarray | None = None,
) -> Objective:
    """Build the objective of labeled clips, monitored by `val_macro_auroc`.

    Args:
        model: The network.
        settings: Uses `loss`.
        multi_label: Any number of classes per clip, else exactly one.
        class_weights: float [n_classes], factor of the loss of each class. None: 1.

    Returns:
        The objective.
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
    """The class with the largest target (a mixture has several), and that with the largest logit."""
    logits = _logits(outputs)
    n_classes = logits.shape[1]
    return F.one_hot(targets.argmax(1), n_classes).bool(), F.one_hot(logits.argmax(1), n_classes).bool()


def _thresholded_predictions(outputs: Any, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes with a target of 0.5 or more, and with a probability of 0.5 or more; unknown targets are in neither."""
    return targets >= 0.5, (_logits(outputs) >= 0) & (targets >= 0)


def _logits(outputs: Any) -> torch.Tensor:
    return outputs[0] if isinstance(outputs, (list, tuple)) else outputs


def build_loss(
    settings: schema.Training, *, multi_label: bool, scale: float = 1.0, weights: losses.Weights = None
) -> Any:
    """Build the loss of logits that the settings name.

    Args:
        settings: Uses `loss.name`, `loss.margin` and `loss.focal_gamma`.
        multi_label: Whether "auto" and "focal" are losses of sigmoids instead of a softmax.
        scale: Factor of the cosines in the logits (`heads.logit_scale`). Default: 1.
        weights: float [n_classes], factor of each class. None: 1.

    Returns:
        The loss, to be called with (logits, targets, label_smoothing).
    """
    if settings.loss.name in schema.ON_COSINES:
        margin = settings.loss.margin or schema.ON_COSINES[settings.loss.name].margin
        on_cosines = {"arcface": cosine_losses.arcface, "circle": cosine_losses.circle}[settings.loss.name]
        return functools.partial(on_cosines, scale=scale, margin=margin)
    loss: Any = losses.loss_by_name(settings.loss.name, multi_label=multi_label, weights=weights)
    return functools.partial(loss, gamma=settings.loss.focal_gamma) if settings.loss.name == "focal" else loss
