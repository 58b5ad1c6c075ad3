"""The training loss and the weights of classes in it."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from birdnet_fs.schema.checks import check


class OnCosines(NamedTuple):
    """Scale and margin of a loss on cosines."""

    scale: float
    margin: float


ON_COSINES = {"arcface": OnCosines(30.0, 0.5), "circle": OnCosines(80.0, 0.4)}  # as torch_impl sets them


@dataclass(frozen=True)
class Loss:
    """The loss that training minimizes; papers: training/losses.py."""

    name: Literal["auto", "bce", "ce", "focal", "asymmetric", "soft_auc", "arcface", "circle"] = "auto"
    # auto: bce (sigmoid cross-entropy) with data.multi_label, else ce (softmax); focal: either kind
    # asymmetric, soft_auc: with data.multi_label; arcface, circle: for model.head=cosine
    focal_gamma: float = 2.0  # of focal, 1 or more: the higher, the less well-classified clips count
    margin: float = 0.0  # of arcface (radians) and circle; 0 = the loss's own (arcface 0.5, circle 0.4)
    label_smoothing: float = 0.0  # share of the target that is spread over all classes, in [0, 1)
    class_weights: Literal["none", "inverse", "sqrt_inverse", "effective"] = "none"  # rule for the weight of a class
    rare_class_weight: float = 1.0  # extra factor for classes with under 5 % of the clips, 1 or more
    # it multiplies class_weights, and the weights that training.sampling draws clips by
    frame_loss: float = 0.0  # of model.head=sed: share of the loss on the logits of the loudest frame, in [0, 1]

    def __post_init__(self) -> None:
        check(self.focal_gamma >= 1, "training.loss.focal_gamma must be 1 or more", self.focal_gamma)
        check(0 <= self.margin < 1, "training.loss.margin must be in [0, 1); 0 is the loss's own", self.margin)
        check(0 <= self.label_smoothing < 1, "training.loss.label_smoothing must be in [0, 1)", self.label_smoothing)
        check(
            self.rare_class_weight >= 1,
            "training.loss.rare_class_weight must be 1 (none) or more",
            self.rare_class_weight,
        )
        check(0 <= self.frame_loss <= 1, "training.loss.frame_loss must be in [0, 1]", self.frame_loss)
