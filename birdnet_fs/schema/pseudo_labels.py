"""Pseudo-labels: windows of unlabeled recordings with the probabilities of a model."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check, check_largest

LARGEST = {"power": 1000.0, "amount": 1000.0}  # above, all but one probability are 0; 1000 windows for each clip


@dataclass(frozen=True)
class PseudoLabels:
    """Training on the windows of `birdnet-fs pseudo-label` besides the labeled clips; off by default.

    Papers: training/pseudo_labels.py.
    """

    table: str = ""  # pseudo.csv, its folder, or a folder with fold0, fold1, ... (data.fold is used); empty = off
    threshold: float = 0.0  # windows whose largest probability is lower are not used, 0 to below 1
    floor: float = 0.0  # lower probabilities are set to 0, 0 to below 1
    power: float = 1.0  # exponent of the probabilities, above 0 (softmax: normalized again); above 1 sharpens them
    weight: Literal["max", "sum", "none"] = "max"  # sampling weight of a window: max or sum of probabilities ** power
    amount: float = 0.5  # number of windows per epoch relative to the labeled items, 0 or more
    mix: float = 0.5  # probability of mixing a window into a labeled item (mixup with augmentation.mixup.alpha), 0..1

    def __post_init__(self) -> None:
        for name in ("threshold", "floor"):
            check(0 <= getattr(self, name) < 1, f"pseudo_labels.{name} must be in [0, 1)", getattr(self, name))
        check(self.power > 0, "pseudo_labels.power must be above 0", self.power)
        check(self.amount >= 0, "pseudo_labels.amount must be 0 or more", self.amount)
        check_largest(self, "pseudo_labels.", LARGEST)
        check(0 <= self.mix <= 1, "pseudo_labels.mix must be in [0, 1]", self.mix)
        check(
            not self.table or bool(self.amount or self.mix),
            "pseudo_labels.amount and pseudo_labels.mix are 0, so that pseudo_labels.table would not be used; set one "
            "of them",
            (self.amount, self.mix),
        )
