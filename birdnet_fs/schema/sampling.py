"""Sampling of the clips in a training epoch."""

from dataclasses import dataclass
from typing import Literal

from birdnet_fs.schema.checks import check, check_largest

# upper bounds of the items in an epoch, whose list is held in memory
LARGEST = {
    "crops_per_clip": 10_000,
    "seconds_per_crop": 86_400.0,
    "min_clips_per_class": 1_000_000,
    "max_clips_per_class": 1_000_000_000,
}
SHORTEST_PER_CROP_S = 0.01  # one hour is then 360,000 crops


@dataclass(frozen=True)
class Sampling:
    """The clips in one training epoch, and how often each occurs."""

    name: Literal["all", "inverse", "sqrt_inverse", "effective"] = "all"
    # all: every clip crops_per_clip times; others: as many clips drawn with replacement, weighted by class frequency
    crops_per_clip: int = 1  # random crops per clip and epoch, 1 or more
    seconds_per_crop: float = 0.0  # crops_per_clip crops for every so many seconds of a clip; 0 = whatever its length
    # a clip counts once at least and 20 times at most, so that one long recording does not dominate an epoch
    min_clips_per_class: int = 0  # smaller classes are oversampled to this number of clips; 0 = off
    max_clips_per_class: int = 0  # larger classes are undersampled to this number, drawn anew each epoch; 0 = off

    def __post_init__(self) -> None:
        check(self.crops_per_clip >= 1, "training.sampling.crops_per_clip must be 1 or more", self.crops_per_clip)
        check(
            self.seconds_per_crop >= 0,
            "training.sampling.seconds_per_crop must be 0 (off) or more seconds",
            self.seconds_per_crop,
        )
        check(
            not self.seconds_per_crop or not (self.min_clips_per_class or self.max_clips_per_class),
            "training.sampling.seconds_per_crop and min_clips_per_class or max_clips_per_class both set how often a "
            "clip occurs; set seconds_per_crop=0, or the other two",
            self.seconds_per_crop,
        )
        check_largest(self, "training.sampling.", LARGEST)
        check(
            self.seconds_per_crop == 0 or self.seconds_per_crop >= SHORTEST_PER_CROP_S,
            f"training.sampling.seconds_per_crop must be 0 (off), or {SHORTEST_PER_CROP_S:g} or more seconds",
            self.seconds_per_crop,
        )
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
