"""The optimizer, including averages of the weights, and the learning-rate schedule."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check, check_largest

# upper bounds, far above any use
MOST_EPOCHS = 100_000  # also the bound of training.epochs
LARGEST_OF_OPTIMIZER = {
    "weight_decay": 1e3,
    "clip_norm": 1e9,
    "accumulate": 65_536,  # with a batch of 1 the largest published batches
    "swa_epochs": MOST_EPOCHS,
}
LARGEST_OF_SCHEDULE = {
    "warmup_epochs": MOST_EPOCHS,
    "step_epochs": MOST_EPOCHS,
    "plateau_patience": MOST_EPOCHS,
}


@dataclass(frozen=True)
class Optimizer:
    """The optimizer; its learning rate is `training.learning_rate`."""

    name: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"  # update rule
    weight_decay: float = 1e-4  # weight decay of kernels, 0 or more; decoupled for adamw, else added to the gradient
    beta1: float = 0.9  # decay of the first moment (adamw, adam) or Nesterov momentum (sgd), 0 to below 1
    beta2: float = 0.999  # decay of the second moment (adamw, adam, rmsprop), 0 to below 1; rmsprop: usually 0.9, 0.99
    amsgrad: bool = False  # AMSGrad variant of adamw and adam
    clip_norm: float = 1.0  # largest global norm of the gradient; 0 = no clipping
    accumulate: int = 1  # number of batches whose gradients are summed into one step, 1 or more
    ema: float = 0.0  # decay per step of an exponential moving average of the weights, 0 (off) to below 1
    swa_epochs: int = 0  # number of last epochs whose weights are averaged; 0 = off

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
        check_largest(self, "training.optimizer.", LARGEST_OF_OPTIMIZER)
        check(
            not (self.swa_epochs and self.ema),
            "training.optimizer.swa_epochs and training.optimizer.ema are two averages of the weights; set one of them "
            "to 0",
            (self.swa_epochs, self.ema),
        )


@dataclass(frozen=True)
class Schedule:
    """The learning-rate schedule; its maximum is `training.learning_rate`, times `peak_factor` in onecycle."""

    name: Literal["cosine", "step", "constant", "onecycle", "plateau"] = "cosine"
    # cosine: half a cosine down to min_learning_rate; step: multiplied by step_factor every step_epochs epochs
    # onecycle: up to learning_rate x peak_factor in 30 % of the steps, then down; warmup_epochs is not used
    # plateau: multiplied by plateau_factor after plateau_patience epochs without a gain of 0.001 in validation
    warmup_epochs: float = 1.0  # epochs of linear warm-up before the schedule, 0 or more; fractions are allowed
    min_learning_rate: float = 0.0  # final learning rate of cosine, 0 to training.learning_rate
    step_epochs: int = 10  # epochs between steps, 1 or more; this and step_factor are those of few-shot V1
    step_factor: float = 0.65  # factor per step, above 0, up to 1
    plateau_factor: float = 0.5  # factor on a plateau, between 0 and 1
    plateau_patience: int = 4  # epochs without improvement before the factor is applied, 0 or more
    peak_factor: float = 1.0  # highest rate of onecycle as a multiple of learning_rate, above 0; 10 in ANIMAL-SPOT
    div: float = 10.0  # highest rate of onecycle / first rate, 1 or more
    final_div: float = 100.0  # first rate of onecycle / last rate, 1 or more

    def __post_init__(self) -> None:
        check(self.warmup_epochs >= 0, "training.schedule.warmup_epochs must be 0 or more", self.warmup_epochs)
        check(
            self.min_learning_rate >= 0,
            "training.schedule.min_learning_rate must be 0 or more",
            self.min_learning_rate,
        )
        check(self.step_epochs >= 1, "training.schedule.step_epochs must be 1 or more", self.step_epochs)
        check_largest(self, "training.schedule.", LARGEST_OF_SCHEDULE)
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
        check(self.peak_factor > 0, "training.schedule.peak_factor must be above 0", self.peak_factor)
        for name in ("div", "final_div"):
            check(getattr(self, name) >= 1, f"training.schedule.{name} must be 1 or more", getattr(self, name))
