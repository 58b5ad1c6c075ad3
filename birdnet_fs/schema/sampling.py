"""Which clips an epoch holds, and how often."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check


@dataclass(frozen=True)
class Sampling:
    """The clips of one training epoch."""

    name: Literal["all", "inverse", "sqrt_inverse", "effective"] = "all"
    # all: every clip crops_per_clip times an epoch; else as many are drawn, with replacement, rare classes more often
    crops_per_clip: int = 1  # random crops of every clip in one epoch
    min_clips_per_class: int = 0  # smaller classes are repeated up to so many clips (oversampling); 0 = as they are
    max_clips_per_class: int = 0  # of larger classes so many are drawn anew every epoch (undersampling); 0 = all

    def __post_init__(self) -> None:
        check(self.crops_per_clip >= 1, "training.sampling.crops_per_clip must be 1 or more", self.crops_per_clip)
        for name in ("min_clips_per_class", "max_clips_per_class"):
            value = getattr(self, name)
            check(value >= 0, f"training.sampling.{name} must be 0 (off) or more clips", value)
        check(
            not self.max_clips_per_class or self.min_clips_per_class <= self.max_clips_per_class,
            f"training.sampling.min_clips_per_class must not be above max_clips_per_class ({self.max_clips_per_class})",
            self.min_clips_per_class,
        )
        check(
            self.name == "all" or not (self.min_clips_per_class or self.max_clips_per_class),
            "training.sampling draws clips by the weight of their class already; set "
            "training.sampling.min_clips_per_class=0 and training.sampling.max_clips_per_class=0, or "
            "training.sampling=all",
            self.name,
        )
