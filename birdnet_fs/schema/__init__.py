"""All settings of an experiment, each with its unit, range, default and check.

One file of frozen dataclasses per group of settings; standard library only. A `config.py` holds experiments as
differences from these defaults; `core.settings` parses `key=value` and JSON into the dataclasses by their annotations.
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
from birdnet_fs.schema.encoder_head import EncoderHead
from birdnet_fs.schema.experiment import NEED_VALIDATION, Experiment, debugged
from birdnet_fs.schema.frontend import FrontEnd
from birdnet_fs.schema.loss import ON_COSINES, Loss
from birdnet_fs.schema.model import Model
from birdnet_fs.schema.optimization import Optimizer, Schedule
from birdnet_fs.schema.pseudo_labels import PseudoLabels
from birdnet_fs.schema.sampling import Sampling
from birdnet_fs.schema.space import Categorical, Float, Int, Space
from birdnet_fs.schema.training import Checkpoints, Episodes, Finetuning, Training

__all__ = [
    "NEED_VALIDATION",
    "ON_COSINES",
    "SELF",
    "AnimalSpot",
    "Augmentation",
    "Categorical",
    "Checkpoints",
    "CutMix",
    "Data",
    "Distillation",
    "EncoderHead",
    "Episodes",
    "Experiment",
    "FeatureNoise",
    "Filters",
    "Finetuning",
    "Float",
    "FrontEnd",
    "Int",
    "Levels",
    "Loss",
    "Masks",
    "Mixup",
    "Model",
    "Noise",
    "Optimizer",
    "Pitch",
    "PseudoLabels",
    "Sampling",
    "Schedule",
    "Shift",
    "Space",
    "Stretch",
    "Training",
    "Warp",
    "debugged",
]
