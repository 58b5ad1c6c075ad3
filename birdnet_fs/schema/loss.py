"""The training loss and its class weights."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from birdnet_fs.schema.checks import check, check_largest


class OnCosines(NamedTuple):
    """Scale and margin of a loss on cosine similarities."""

    scale: float
    margin: float


ON_COSINES = {"arcface": OnCosines(30.0, 0.5), "circle": OnCosines(80.0, 0.4)}  # defaults of torch_impl
LARGEST = {"focal_gamma": 100.0, "rare_class_weight": 1e6}  # above, every term of the loss is 0 or infinite


@dataclass(frozen=True)
class Loss:
    """The loss minimized in training; papers: training/losses.py."""

    name: Literal["auto", "bce", "ce", "focal", "asymmetric", "soft_auc", "arcface", "circle"] = "auto"
    # auto: bce (sigmoid cross-entropy) with data.multi_label, else ce (softmax); focal: with or without multi_label
    # asymmetric, soft_auc: need data.multi_label; arcface, circle: need model.head=cosine
    focal_gamma: float = 2.0  # exponent of the focal loss, 1 or more; larger values reduce the weight of easy clips
    margin: float = 0.0  # margin of arcface (radians) and circle, 0 to below 1; 0 = default (arcface 0.5, circle 0.4)
    label_smoothing: float = 0.0  # fraction of the target spread over all classes, 0 to below 1
    class_weights: Literal["none", "inverse", "sqrt_inverse", "effective"] = "none"  # weight by number of clips
    rare_class_weight: float = 1.0  # factor for classes with less than 5 % of the clips, 1 or more
    # it multiplies class_weights and the sampling weights of training.sampling
    frame_loss: float = 0.0  # weight of the loss on the largest logit over time (model.head=sed), 0..1

    def __post_init__(self) -> None:
        check(self.focal_gamma >= 1, "training.loss.focal_gamma must be 1 or more", self.focal_gamma)
        check_largest(self, "training.loss.", LARGEST)
        check(0 <= self.margin < 1, "training.loss.margin must be in [0, 1); 0 = default of the loss", self.margin)
        check(0 <= self.label_smoothing < 1, "training.loss.label_smoothing must be in [0, 1)", self.label_smoothing)
        check(
            self.rare_class_weight >= 1,
            "training.loss.rare_class_weight must be 1 (none) or more",
            self.rare_class_weight,
        )
        check(0 <= self.frame_loss <= 1, "training.loss.frame_loss must be in [0, 1]", self.frame_loss)
