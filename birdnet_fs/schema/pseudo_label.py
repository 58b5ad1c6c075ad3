"""Windows of unlabeled recordings, labeled by runs."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check


@dataclass(frozen=True)
class PseudoLabels:
    """Windows that `birdnet-fs pseudo-label` has labeled, trained on beside the labeled clips; none as it stands.

    Papers: training/pseudo_labels.py.
    """

    table: str = ""  # pseudo.csv, its folder, or one with fold0, fold1, ... for the fold held out here; empty = none
    threshold: float = 0.0  # windows without a probability of this or more are left out
    floor: float = 0.0  # lower probabilities count as 0
    power: float = 1.0  # probabilities ** power (sums of 1 are then made again): above 1 doubts count less
    weight: Literal["max", "sum", "none"] = "max"  # a window is drawn as often as its probabilities ** power say
    amount: float = 0.5  # windows in an epoch / labeled items in it; 0 = none by themselves
    mix: float = 0.5  # chance that a labeled item has a window mixed in, by augmentation.mixup.alpha

    def __post_init__(self) -> None:
        for name in ("threshold", "floor"):
            check(0 <= getattr(self, name) < 1, f"pseudo_labels.{name} must be in [0, 1)", getattr(self, name))
        check(self.power > 0, "pseudo_labels.power must be above 0", self.power)
        check(self.amount >= 0, "pseudo_labels.amount must be 0 or more", self.amount)
        check(0 <= self.mix <= 1, "pseudo_labels.mix must be in [0, 1]", self.mix)
        check(
            not self.table or bool(self.amount or self.mix),
            "pseudo_labels.amount and pseudo_labels.mix are 0, so that pseudo_labels.table would not be used; set one "
            "of them",
            (self.amount, self.mix),
        )
