"""Lengths and thresholds of ANIMAL-SPOT."""

from dataclasses import dataclass
from typing import Literal

PRESETS = ("animal_spot",)


@dataclass(frozen=True)
class AnimalSpotPreset:
    """Settings of a detection as in ANIMAL-SPOT.

    Attributes:
        window_s: Length of a window in seconds. Default: 0.8.
        hop_s: Seconds from one window to the next. Default: 0.1.
        threshold: Lowest probability of a class, 0..1. Default: 0.85.
        detector_threshold: Lowest probability of a call, 1 - p(noise) of the detector, 0..1. Default: 0.5.
        min_event_s: Shorter events are left out. Default: 0.1.
        max_gap_s: Events of a class with a shorter gap between them are one. Default: 0.15.
        rule: "windows" (two stages: windows of a class with a gap below the hop are merged, their probabilities
            averaged) or "slices" (one stage: the most probable window of every slice of time). Default: "slices".
    """

    window_s: float = 0.8
    hop_s: float = 0.1
    threshold: float = 0.85
    detector_threshold: float = 0.5
    min_event_s: float = 0.1
    max_gap_s: float = 0.15
    rule: Literal["windows", "slices"] = "slices"


ANIMAL_SPOT = AnimalSpotPreset()
