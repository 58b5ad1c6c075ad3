"""Sampling of the clips in a training epoch."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check


@dataclass(frozen=True)
class Sampling:
    """The clips in one training epoch, and how often each occurs."""

    name: Literal["all", "inverse", "sqrt_inverse", "effective"] = "all"
    # all: every clip crops_per_clip times; others: as many clips drawn with replacement, weighted by class frequency
    crops_per_clip: int = 1  # random crops per clip and epoch, 1 or more
    min_clips_per_class: int = 0  # smaller classes are oversampled to this number of clips; 0 = off
    max_clips_per_class: int = 0  # larger classes are undersampled to this number, drawn anew each epoch; 0 = off

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
            "training.sampling draws clips by the weight of their class; set "
            "training.sampling.min_clips_per_class=0 and training.sampling.max_clips_per_class=0, or "
            "training.sampling=all",
            self.name,
        )
