"""The optimizer, with the averages of weights that it can keep, and the schedule of the learning rate."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check


@dataclass(frozen=True)
class Optimizer:
    """The optimizer; its learning rate is `training.learning_rate`."""

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    weight_decay: float = 1e-4  # of kernels; decoupled with adamw, else added to the gradient
    beta1: float = 0.9  # of adamw and adam; of sgd the momentum (Nesterov)
    beta2: float = 0.999  # of adamw and adam; of rmsprop its smoothing, usually 0.9 or 0.99
    amsgrad: bool = False  # of adamw and adam
    clip_norm: float = 1.0  # bound of the global norm of the gradient; 0 = off
    accumulate: int = 1  # batches whose gradients make one step
    ema: float = 0.0  # decay per step of an exponential average of the weights, which is kept; 0 = off
    swa_epochs: int = 0  # last epochs whose mean weights are kept; 0 = off

    def __post_init__(self) -> None:
        for name in ("weight_decay", "clip_norm"):
            check(getattr(self, name) >= 0, f"training.optimizer.{name} must be 0 or more", getattr(self, name))
        for name in ("beta1", "beta2"):
            check(0 <= getattr(self, name) < 1, f"training.optimizer.{name} must be in [0, 1)", getattr(self, name))
        check(
            not self.amsgrad or self.name in ("adamw", "adam"),
            "training.optimizer.amsgrad needs training.optimizer=adamw or adam",
            self.name,
        )
        check(self.accumulate >= 1, "training.optimizer.accumulate must be 1 or more", self.accumulate)
        check(0 <= self.ema < 1, "training.optimizer.ema must be in [0, 1)", self.ema)
        check(self.swa_epochs >= 0, "training.optimizer.swa_epochs must be 0 or more epochs", self.swa_epochs)
        check(
            not (self.swa_epochs and self.ema),
            "training.optimizer.swa_epochs and training.optimizer.ema are two averages of the weights; set one of them "
            "to 0",
            (self.swa_epochs, self.ema),
        )


@dataclass(frozen=True)
class Schedule:
    """How the learning rate changes from `training.learning_rate` over the epochs."""

    name: Literal["cosine", "step", "constant", "onecycle", "plateau"] = "cosine"
    # cosine: half a cosine down to min_learning_rate; step: times step_factor after every step_epochs
    # onecycle: from a tenth up to learning_rate in 30 % of the steps, down to a thousandth; no warm-up of its own
    # plateau: times plateau_factor when the validation metric has not risen by .001 for plateau_patience epochs
    warmup_epochs: float = 1.0  # linear, in front of the schedule
    min_learning_rate: float = 0.0  # of cosine
    step_epochs: int = 10  # of step; this and step_factor as in few-shot V1 (systems.md A)
    step_factor: float = 0.65  # of step, in (0, 1]
    plateau_factor: float = 0.5  # of plateau, between 0 and 1
    plateau_patience: int = 4  # of plateau

    def __post_init__(self) -> None:
        check(self.warmup_epochs >= 0, "training.schedule.warmup_epochs must be 0 or more", self.warmup_epochs)
        check(
            self.min_learning_rate >= 0,
            "training.schedule.min_learning_rate must be 0 or more",
            self.min_learning_rate,
        )
        check(self.step_epochs >= 1, "training.schedule.step_epochs must be 1 or more", self.step_epochs)
        check(0 < self.step_factor <= 1, "training.schedule.step_factor must be in (0, 1]", self.step_factor)
        check(
            0 < self.plateau_factor < 1,
            "training.schedule.plateau_factor must be between 0 and 1",
            self.plateau_factor,
        )
        check(
            self.plateau_patience >= 0,
            "training.schedule.plateau_patience must be 0 or more epochs",
            self.plateau_patience,
        )
