"""How the network is trained: epochs, machine, and a group of settings for each part of training."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from birdnet_fs.schema.checks import check
from birdnet_fs.schema.loss import Loss
from birdnet_fs.schema.optimization import Optimizer, Schedule
from birdnet_fs.schema.sampling import Sampling


@dataclass(frozen=True)
class Finetuning:
    """What of a pretrained network is trained, and how fast."""

    freeze_blocks: int = 0  # blocks from the input on that keep the weights they start with; -1 = all but the head
    unfreeze_epoch: int = 0  # finished epochs after which the frozen blocks are trained too; 0 = never
    layer_decay: float = 1.0  # learning rate of a block / that of the next; the head's is learning_rate; 1 = all alike

    def __post_init__(self) -> None:
        freeze, unfreeze = self.freeze_blocks, self.unfreeze_epoch
        check(freeze >= -1, "training.finetuning.freeze_blocks must be -1 (all) or more", freeze)
        check(unfreeze >= 0, "training.finetuning.unfreeze_epoch must be 0 or more epochs", unfreeze)
        check(
            not unfreeze or bool(freeze),
            "training.finetuning.unfreeze_epoch needs training.finetuning.freeze_blocks",
            unfreeze,
        )
        check(0 < self.layer_decay <= 1, "training.finetuning.layer_decay must be in (0, 1]", self.layer_decay)


@dataclass(frozen=True)
class Checkpoints:
    """Which epoch's weights a run keeps, when training stops early, and what is stored besides."""

    select: Literal["last", "best"] = "last"  # epoch whose weights the run holds
    # best needs validation clips: by val_macro_auroc, with episodes by val_acc
    patience: int = 0  # epochs without a better val_macro_auroc (or val_acc) after which training stops; 0 = never
    n_best: int = 0  # best epochs stored as run folders in checkpoints/, and the last; 0 = none at all
    # without validation clips only the last

    def __post_init__(self) -> None:
        for name in ("patience", "n_best"):
            check(getattr(self, name) >= 0, f"training.checkpoints.{name} must be 0 or more", getattr(self, name))

    @property
    def needs_validation(self) -> bool:
        """Whether the weights that are kept, or the end of the training, depend on a validation metric."""
        return self.select == "best" or self.patience > 0


@dataclass(frozen=True)
class Training:
    """How the network is trained."""

    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 1e-3  # the highest of the schedule
    loss: Loss = field(default_factory=Loss)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    sampling: Sampling = field(default_factory=Sampling)
    finetuning: Finetuning = field(default_factory=Finetuning)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: bfloat16 on a GPU, else float32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0  # of torch on the CPU; 0 = torch's default
    workers: int = 0  # processes that prepare batches; 0 = in this one
    track: Literal["none", "tensorboard", "mlflow", "both"] = "none"  # where metrics go besides history.csv

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            if dataclasses.is_dataclass(f.type):
                _check_group(f.name, getattr(self, f.name), f.type)
        for name in ("epochs", "batch_size"):
            check(getattr(self, name) >= 1, f"training.{name} must be 1 or more", getattr(self, name))
        for name in ("threads", "workers"):
            check(getattr(self, name) >= 0, f"training.{name} must be 0 or more", getattr(self, name))
        check(self.learning_rate > 0, "training.learning_rate must be above 0", self.learning_rate)
        check(
            self.schedule.min_learning_rate <= self.learning_rate,
            f"training.schedule.min_learning_rate must be in [0, {self.learning_rate:g}] (training.learning_rate)",
            self.schedule.min_learning_rate,
        )
        check(
            not (self.optimizer.swa_epochs and self.checkpoints.select == "best"),
            "training.optimizer.swa_epochs averages the last epochs; use training.checkpoints.select=last",
            self.checkpoints.select,
        )

    @property
    def needs_validation(self) -> bool:
        """Whether a validation metric decides anything: the epoch that is kept, early stopping, or the plateau."""
        return self.checkpoints.needs_validation or self.schedule.name == "plateau"


def _check_group(name: str, value: object, group: Any) -> None:
    """Refuse a value of another type where a group of settings belongs, as `Training(loss="focal")`."""
    check(
        isinstance(value, group),
        f"training.{name} must be a {group.__name__} of birdnet_fs.schema, as {name}={group.__name__}(...)",
        value,
    )


@dataclass(frozen=True)
class Episodes:
    """Few-shot training: a step is an episode, n_way classes with n_shot clips each to learn from, n_query to tell."""

    n_way: int = 10
    n_shot: int = 5
    n_query: int = 5
    n_train: int = 2000  # in one epoch
    n_val: int = 200  # after every epoch, on classes that are not trained on
    n_test: int = 200  # at the end, on classes of their own
    same_recording: bool = False  # support and query may be parts of one recording (measures the recording too)
    # a class with fewer clips than n_shot + n_query then gives several parts of a clip

    def __post_init__(self) -> None:
        check(self.n_way >= 2, "episodes.n_way must be 2 or more", self.n_way)
        for name in ("n_shot", "n_query", "n_train"):
            check(getattr(self, name) >= 1, f"episodes.{name} must be 1 or more", getattr(self, name))
        for name in ("n_val", "n_test"):
            check(getattr(self, name) >= 0, f"episodes.{name} must be 0 (none) or more", getattr(self, name))
