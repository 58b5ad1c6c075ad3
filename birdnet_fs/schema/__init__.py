"""What can be chosen: every setting with its unit, default and check.

Frozen dataclasses, standard library only, a file for each group. `config.py` says what we set, as differences from
these defaults; `plumbing.settings` reads `key=value` and JSON into them by their annotations.
"""

from birdnet_fs.schema.augmentation import (
    AnimalSpot,
    Augmentation,
    CutMix,
    FeatureNoise,
    Filters,
    Levels,
    Masks,
    Mixup,
    Noise,
    Pitch,
    Shift,
    Stretch,
    Warp,
)
from birdnet_fs.schema.data import Data
from birdnet_fs.schema.distillation import SELF, Distillation
from birdnet_fs.schema.experiment import Experiment, debugged
from birdnet_fs.schema.frontend import FrontEnd
from birdnet_fs.schema.model import Model
from birdnet_fs.schema.pseudo import Pseudo
from birdnet_fs.schema.space import Choice, Float, Int, Space
from birdnet_fs.schema.training import ON_COSINES, Episodes, Training

__all__ = [
    "ON_COSINES",
    "SELF",
    "AnimalSpot",
    "Augmentation",
    "Choice",
    "CutMix",
    "Data",
    "Distillation",
    "Episodes",
    "Experiment",
    "FeatureNoise",
    "Filters",
    "Float",
    "FrontEnd",
    "Int",
    "Levels",
    "Masks",
    "Mixup",
    "Model",
    "Noise",
    "Pitch",
    "Pseudo",
    "Shift",
    "Space",
    "Stretch",
    "Training",
    "Warp",
    "debugged",
]
