"""Losses, weights, optimisers, schedules and what is kept; episodes for training on few shots."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from birdnet_fs.schema.checks import check


class OnCosines(NamedTuple):
    """What a loss on cosines multiplies them by and asks of them."""

    scale: float
    margin: float


ON_COSINES = {"arcface": OnCosines(30.0, 0.5), "circle": OnCosines(80.0, 0.4)}  # as torch_impl sets them


@dataclass(frozen=True)
class Training:
    """How the network learns."""

    epochs: int = 30
    batch_size: int = 32
    loss: Literal["auto", "bce", "ce", "focal", "asymmetric", "soft_auc", "arcface", "circle"] = "auto"
    # auto: bce (sigmoid cross-entropy) with data.multi_label, else ce (softmax); focal: either kind
    # asymmetric, soft_auc: with data.multi_label; arcface, circle: for head=cosine
    focal_gamma: float = 2.0  # of focal: how little what is told well counts
    frame_loss: float = 0.0  # of head=sed: share of the loss that the loudest frame's logits have
    class_weights: Literal["none", "inverse", "sqrt_inverse", "effective"] = "none"  # of the loss
    sampling: Literal["all", "inverse", "sqrt_inverse", "effective"] = "all"
    # all: every clip `views` times an epoch; else as many are drawn, with replacement, rare classes more often
    rare_boost: float = 1.0  # what the weight of a class with under 5 % of the clips is multiplied by, in both
    at_least: int = 0  # clips of a class in an epoch: those of a smaller class come again (oversampling); 0 = as it is
    at_most: int = 0  # of a larger class this many are drawn anew every epoch (undersampling); 0 = all
    margin: float = 0.0  # of arcface (radians) and circle; 0 = the loss's own (arcface 0.5, circle 0.4)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4  # of kernels; decoupled with adamw, else added to the gradient
    optimizer: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    beta1: float = 0.9  # of adamw and adam; of sgd the momentum (Nesterov)
    beta2: float = 0.999  # of adamw and adam; of rmsprop its smoothing, usually 0.9 or 0.99
    amsgrad: bool = False  # of adamw and adam
    accumulate: int = 1  # batches whose gradients make one step
    warmup_epochs: float = 1.0  # linear, then what schedule says
    schedule: Literal["cosine", "step", "constant", "onecycle", "plateau"] = "cosine"
    # cosine: half a cosine down to min_learning_rate; step: times step_factor after every step_epochs
    # onecycle: from a tenth up to learning_rate in 30 % of the steps, down to a thousandth; no warm-up of its own
    # plateau: times plateau_factor when what chooses the best epoch has not risen by .001 for plateau_patience epochs
    plateau_factor: float = 0.5
    plateau_patience: int = 4
    min_learning_rate: float = 0.0  # of schedule=cosine
    step_epochs: int = 10  # of schedule=step; this and step_factor as in few-shot V1 (systems.md A)
    step_factor: float = 0.65
    clip_norm: float = 1.0  # global norm of the gradient; 0 = off
    label_smoothing: float = 0.0
    freeze_blocks: int = 0  # blocks from the input on that keep the weights they start with; -1 = all but the head
    layer_decay: float = 1.0  # learning rate of a block / that of the next; the head's is learning_rate; 1 = all alike
    unfreeze_epoch: int = 0  # finished epochs after which the frozen blocks learn too; 0 = never
    ema: float = 0.0  # decay of the weight average that is kept, per step; 0 = off
    swa_epochs: int = 0  # last epochs whose mean weights are kept; 0 = off
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: bfloat16 on a GPU, else float32
    device: Literal["auto", "cpu", "cuda"] = "auto"
    keep: Literal["last", "best"] = "last"  # best needs validation clips: val_macro_auroc, with episodes val_acc
    patience: int = 0  # epochs without a better val_macro_auroc (or val_acc) after which it stops; 0 = never
    checkpoints: int = 0  # of the best epochs kept as run folders in checkpoints/, and the last; 0 = none at all
    # without validation clips only the last
    track: Literal["none", "tensorboard", "mlflow", "both"] = "none"  # where metrics go besides history.csv
    views: int = 1  # random crops of every clip in one epoch
    threads: int = 0  # of torch on the CPU; 0 = as torch decides
    workers: int = 0  # processes that prepare batches; 0 = in this one

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "views", "step_epochs", "accumulate"):
            check(getattr(self, name) >= 1, f"training.{name} must be 1 or more", getattr(self, name))
        for name in ("weight_decay", "warmup_epochs", "clip_norm", "threads", "workers", "patience", "checkpoints"):
            check(getattr(self, name) >= 0, f"training.{name} must be 0 or more", getattr(self, name))
        for name in ("plateau_patience", "unfreeze_epoch", "swa_epochs"):
            check(getattr(self, name) >= 0, f"training.{name} must be 0 or more epochs", getattr(self, name))
        check(self.learning_rate > 0, "training.learning_rate must be above 0", self.learning_rate)
        check(
            0 <= self.min_learning_rate <= self.learning_rate,
            f"training.min_learning_rate must be in [0, {self.learning_rate:g}] (training.learning_rate)",
            self.min_learning_rate,
        )
        check(0 < self.step_factor <= 1, "training.step_factor must be in (0, 1]", self.step_factor)
        check(0 < self.plateau_factor < 1, "training.plateau_factor must be between 0 and 1", self.plateau_factor)
        for name in ("beta1", "beta2"):
            check(0 <= getattr(self, name) < 1, f"training.{name} must be in [0, 1)", getattr(self, name))
        check(
            not self.amsgrad or self.optimizer in ("adamw", "adam"),
            "training.amsgrad needs training.optimizer=adamw or adam",
            self.optimizer,
        )
        check(
            not self.unfreeze_epoch or bool(self.freeze_blocks),
            "training.unfreeze_epoch needs training.freeze_blocks",
            self.unfreeze_epoch,
        )
        check(
            not (self.swa_epochs and self.ema),
            "training.swa_epochs and training.ema are two averages of the weights; set one of them to 0",
            (self.swa_epochs, self.ema),
        )
        check(
            not (self.swa_epochs and self.keep == "best"),
            "training.swa_epochs averages the last epochs; use training.keep=last",
            self.keep,
        )
        check(self.focal_gamma >= 1, "training.focal_gamma must be 1 or more", self.focal_gamma)
        check(0 <= self.frame_loss <= 1, "training.frame_loss must be in [0, 1]", self.frame_loss)
        check(self.rare_boost >= 1, "training.rare_boost must be 1 (none) or more", self.rare_boost)
        for name in ("at_least", "at_most"):
            check(getattr(self, name) >= 0, f"training.{name} must be 0 (off) or more clips", getattr(self, name))
        check(
            not self.at_most or self.at_least <= self.at_most,
            f"training.at_least must not be above at_most ({self.at_most})",
            self.at_least,
        )
        check(
            self.sampling == "all" or not (self.at_least or self.at_most),
            "training.sampling draws clips by the weight of their class already; set training.at_least=0 and "
            "training.at_most=0, or training.sampling=all",
            self.sampling,
        )
        check(0 <= self.label_smoothing < 1, "training.label_smoothing must be in [0, 1)", self.label_smoothing)
        check(0 <= self.margin < 1, "training.margin must be in [0, 1); 0 is the loss's own", self.margin)
        check(0 <= self.ema < 1, "training.ema must be in [0, 1)", self.ema)
        check(self.freeze_blocks >= -1, "training.freeze_blocks must be -1 (all) or more", self.freeze_blocks)
        check(0 < self.layer_decay <= 1, "training.layer_decay must be in (0, 1]", self.layer_decay)


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
