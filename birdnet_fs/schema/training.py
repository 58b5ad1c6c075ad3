"""Training: epochs, hardware, one group of settings for each part, and few-shot episodes."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from birdnet_fs.schema.checks import check, check_largest
from birdnet_fs.schema.loss import Loss
from birdnet_fs.schema.optimization import MOST_EPOCHS, Optimizer, Schedule
from birdnet_fs.schema.sampling import Sampling

# upper bounds, far above any use, so that a stranger's settings cannot take all memory or time
LARGEST = {
    "epochs": MOST_EPOCHS,
    "batch_size": 65_536,  # twice the largest published batches; schema.experiment bounds the features of a batch
    "min_steps": 1_000_000_000,
    "max_steps": 1_000_000_000,
    "learning_rate": 1e30,  # takes neither memory nor time; one that diverges is reported as such
    "threads": 1024,
    "workers": 1024,  # processes, each of hundreds of megabytes
}
LARGEST_OF_FINETUNING = {"freeze_blocks": 10_000, "unfreeze_epoch": MOST_EPOCHS}
LARGEST_OF_CHECKPOINTS = {"patience": MOST_EPOCHS, "n_best": 10_000}
LARGEST_OF_EPISODES = {
    "n_way": 10_000,
    "n_shot": 10_000,
    "n_query": 10_000,
    "n_train": 10_000_000,
    "n_val": 10_000_000,
    "n_test": 10_000_000,
}
MOST_CLIPS = 65_536  # of an episode, which is one batch


@dataclass(frozen=True)
class Finetuning:
    """Finetuning of a pretrained network: frozen blocks and layer-wise learning rates."""

    freeze_blocks: int = 0  # number of frozen blocks, counted from the input; 0 = none, -1 = all except the head
    unfreeze_epoch: int = 0  # number of epochs after which the frozen blocks are trained too; 0 = never
    layer_decay: float = 1.0  # ratio of the learning rates of a block and the next, above 0, up to 1; 1 = equal rates

    def __post_init__(self) -> None:
        freeze, unfreeze = self.freeze_blocks, self.unfreeze_epoch
        check(freeze >= -1, "training.finetuning.freeze_blocks must be -1 (all) or more", freeze)
        check_largest(self, "training.finetuning.", LARGEST_OF_FINETUNING)
        check(unfreeze >= 0, "training.finetuning.unfreeze_epoch must be 0 or more epochs", unfreeze)
        check(
            not unfreeze or bool(freeze),
            "training.finetuning.unfreeze_epoch needs training.finetuning.freeze_blocks",
            unfreeze,
        )
        check(0 < self.layer_decay <= 1, "training.finetuning.layer_decay must be in (0, 1]", self.layer_decay)


@dataclass(frozen=True)
class Checkpoints:
    """Selection of the final weights, early stopping, and stored checkpoints."""

    select: Literal["last", "best"] = "last"  # epoch whose weights the run folder holds
    # best: largest val_macro_auroc, in episodes val_acc; needs validation clips
    patience: int = 0  # epochs without improvement of that metric after which training stops; 0 = never
    n_best: int = 0  # number of best epochs stored as run folders in checkpoints/, besides the last; 0 = store none
    # without validation clips only the last epoch is stored

    def __post_init__(self) -> None:
        for name in ("patience", "n_best"):
            check(getattr(self, name) >= 0, f"training.checkpoints.{name} must be 0 or more", getattr(self, name))
        check_largest(self, "training.checkpoints.", LARGEST_OF_CHECKPOINTS)

    @property
    def needs_validation(self) -> bool:
        """Whether the selected weights or the end of training depend on a validation metric."""
        return self.select == "best" or self.patience > 0


@dataclass(frozen=True)
class Training:
    """Training of the network."""

    epochs: int = 30  # number of epochs, 1 or more
    batch_size: int = 32  # segments per batch, 1 or more
    min_steps: int = 0  # with fewer batches in all epochs together, every epoch repeats its clips; 0 = off
    max_steps: int = 0  # with more batches in all epochs together, every epoch draws a part of its crops; 0 = no limit
    learning_rate: float = 1e-3  # maximum of the schedule, above 0; see also schedule.peak_factor
    loss: Loss = field(default_factory=Loss)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    sampling: Sampling = field(default_factory=Sampling)
    finetuning: Finetuning = field(default_factory=Finetuning)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the arithmetic; the weights are float32
    # auto: float32 on a CPU, bfloat16 on a GPU of compute capability 8.0 or more, float16 with loss scaling on another
    gradient_checkpointing: bool = False  # compute activations again in the backward pass: the same weights with less
    # memory and about a third more time; in one process
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: cuda where available
    threads: int = 0  # CPU threads of torch; 0 = torch's default
    workers: int = 0  # processes that prepare batches; 0 = the main process
    cache: Literal["waveforms", "features"] = "waveforms"  # what data.cache keeps of a clip
    # features: those of the front-end too; needs augmentation.crop=center and no change of the waveform
    track: Literal["none", "tensorboard", "mlflow", "both", "wandb"] = "none"  # trackers besides history.csv
    # both: TensorBoard and MLflow; wandb: Weights & Biases, written beside the run folder (WANDB_MODE=online sends it)

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            if dataclasses.is_dataclass(f.type):
                _check_group(f.name, getattr(self, f.name), f.type)
        for name in ("epochs", "batch_size"):
            check(getattr(self, name) >= 1, f"training.{name} must be 1 or more", getattr(self, name))
        for name in ("threads", "workers"):
            check(getattr(self, name) >= 0, f"training.{name} must be 0 or more", getattr(self, name))
        for name in ("min_steps", "max_steps"):
            check(getattr(self, name) >= 0, f"training.{name} must be 0 (off) or more batches", getattr(self, name))
        check(
            not self.max_steps or self.max_steps >= max(self.epochs, self.min_steps),
            f"training.max_steps must be 0 (no limit), or at least training.epochs ({self.epochs}) and "
            f"training.min_steps ({self.min_steps})",
            self.max_steps,
        )
        check_largest(self, "training.", LARGEST)
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
    def highest_learning_rate(self) -> float:
        """Highest rate of the schedule: `learning_rate`, in onecycle times `schedule.peak_factor`."""
        return self.learning_rate * (self.schedule.peak_factor if self.schedule.name == "onecycle" else 1.0)

    @property
    def needs_validation(self) -> bool:
        """Whether the selected epoch, early stopping or the plateau schedule depends on a validation metric."""
        return self.checkpoints.needs_validation or self.schedule.name == "plateau"


def _check_group(name: str, value: object, group: Any) -> None:
    """Raise UserError for a value of another type than the group of settings, as in `Training(loss="focal")`."""
    check(
        isinstance(value, group),
        f"training.{name} must be a {group.__name__} of birdnet_fs.schema, as {name}={group.__name__}(...)",
        value,
    )


@dataclass(frozen=True)
class Episodes:
    """Few-shot training in episodes; one episode is one optimizer step."""

    n_way: int = 10  # classes per episode, 2 or more
    n_shot: int = 5  # support clips per class, 1 or more
    n_query: int = 5  # query clips per class, 1 or more
    n_train: int = 2000  # training episodes per epoch, 1 or more
    n_val: int = 200  # validation episodes after every epoch, on classes not trained on; 0 = none
    n_test: int = 200  # test episodes after training, on the test classes; 0 = none
    same_recording: bool = False  # support and query may be parts of one recording, which the accuracy then reflects
    # a class with fewer clips than n_shot + n_query then contributes several parts of a clip

    def __post_init__(self) -> None:
        check(self.n_way >= 2, "episodes.n_way must be 2 or more", self.n_way)
        for name in ("n_shot", "n_query", "n_train"):
            check(getattr(self, name) >= 1, f"episodes.{name} must be 1 or more", getattr(self, name))
        for name in ("n_val", "n_test"):
            check(getattr(self, name) >= 0, f"episodes.{name} must be 0 (none) or more", getattr(self, name))
        check_largest(self, "episodes.", LARGEST_OF_EPISODES)
        check(
            self.n_clips <= MOST_CLIPS,
            f"episodes.n_way * (n_shot + n_query) must be {MOST_CLIPS} clips or fewer",
            self.n_clips,
        )

    @property
    def n_clips(self) -> int:
        """Clips of one episode, support and query."""
        return self.n_way * (self.n_shot + self.n_query)
