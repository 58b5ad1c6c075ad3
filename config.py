"""Named experiments: functions that return an Experiment, as differences from the defaults; experiments/ holds them.

    birdnet-fs train config.py:birds10 data.root=../shared/data
    birdnet-fs cv    config.py:birds10 data.root=../shared/data --seeds 0,1,2
    birdnet-fs cv    config.py:birds10_birdnet data.root=../shared/data model.encoder=FILE
    birdnet-fs train config.py:birdclef2025 data.root=FOLDER training.batch_size=64 --cfg
    birdnet-fs train config.py:fewshot_v2 data.root=../shared/data
    birdnet-fs tune  config.py:birds10_cnn data.root=../shared/data data.val_fraction=0.2 --workers 2

All settings with unit, range and default: birdnet_fs/schema/.
"""

from experiments.animal_spot import animal_spot, animal_spot_convnext, animal_spot_first, space_animal_spot
from experiments.birdclef import birdclef2025, space_birdclef2025
from experiments.birds import birds10, birds10_cnn, birds10_mixed, soundscapes, space_birds10_cnn, xc171
from experiments.detection import call_or_noise
from experiments.encoders import birds10_birdnet, soundscapes_birdnet
from experiments.few_shot import bengalese_finch, fewshot_v1, fewshot_v2, xc171_episodes

__all__ = [
    "animal_spot",
    "animal_spot_convnext",
    "animal_spot_first",
    "bengalese_finch",
    "birdclef2025",
    "birds10",
    "birds10_birdnet",
    "birds10_cnn",
    "birds10_mixed",
    "call_or_noise",
    "fewshot_v1",
    "fewshot_v2",
    "soundscapes",
    "soundscapes_birdnet",
    "space_animal_spot",
    "space_birdclef2025",
    "space_birds10_cnn",
    "xc171",
    "xc171_episodes",
]
