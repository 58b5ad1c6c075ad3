"""Named experiments: functions that return an Experiment, as differences from the defaults; experiments/ holds them.

    birdnet-fs train config.py:birds10 data.root=../shared/data
    birdnet-fs cv    config.py:birds10 data.root=../shared/data --seeds 0,1,2
    birdnet-fs cv    config.py:birds10_birdnet data.root=../shared/data model.encoder=FILE
    birdnet-fs train config.py:birdclef2025 data.root=FOLDER training.batch_size=64 --cfg
    birdnet-fs train config.py:fewshot_v2 data.root=../shared/data
    birdnet-fs train config.py:efficientnet_v2_arcface data.root=FOLDER
    birdnet-fs tune  config.py:birds10_cnn data.root=../shared/data data.val_fraction=0.2 --workers 2

All settings with unit, range and default: birdnet_fs/schema/.
"""

from experiments.animal_spot import (
    animal_spot,
    animal_spot_convnext,
    animal_spot_convnext_pretrained,
    animal_spot_resnet18_500ms,
    animal_spot_resnet18_1000ms,
    animal_spot_resnet18_old,
    animal_spot_resnet18_optimized,
    space_animal_spot,
)
from experiments.birdclef import birdclef2025, birdclef2025_rnn, birdclef2025_vit, space_birdclef2025
from experiments.birds import birds10, birds10_cnn, birds10_mixed, soundscapes, space_birds10_cnn, xc171
from experiments.detection import call_or_noise
from experiments.encoders import birds10_birdnet, soundscapes_birdnet
from experiments.families import (
    birds10_cnn14,
    birds10_cnn_small,
    birds10_cnn_tiny,
    birds10_convnext_tiny,
    birds10_efficientnet_b0,
    birds10_efficientnet_v2_b0,
    birds10_ghost_efficientnet_v2,
    birds10_mobilenet_v1,
    birds10_mobilenet_v2,
    birds10_resnet_18,
    birds10_rnn_gru,
    birds10_rnn_lstm,
    birds10_vit_tiny,
    space_birds10_families,
)
from experiments.few_shot import (
    bengalese_finch,
    fewshot_v1,
    fewshot_v1_mlflow,
    fewshot_v2,
    fewshot_v2_conv_gate,
    fewshot_v2_mlflow,
    fewshot_v2_wide,
    xc171_episodes,
)
from experiments.torch_impl import (
    efficientnet_v2,
    efficientnet_v2_arcface,
    efficientnet_v2_from_cnn14,
    efficientnet_v2_qat,
    ghost_efficientnet_v2,
    ghost_efficientnet_v2_from_efficientnet_v2,
    ghost_efficientnet_v2_qat,
    panns_cnn14,
    panns_cnn14_qat,
    panns_mobilenetv1,
    panns_mobilenetv1_from_cnn14,
    panns_mobilenetv1_qat,
    panns_mobilenetv2,
    panns_mobilenetv2_from_cnn14,
    panns_mobilenetv2_qat,
)

__all__ = [
    "animal_spot",
    "animal_spot_convnext",
    "animal_spot_convnext_pretrained",
    "animal_spot_resnet18_500ms",
    "animal_spot_resnet18_1000ms",
    "animal_spot_resnet18_old",
    "animal_spot_resnet18_optimized",
    "bengalese_finch",
    "birdclef2025",
    "birdclef2025_rnn",
    "birdclef2025_vit",
    "birds10",
    "birds10_birdnet",
    "birds10_cnn",
    "birds10_cnn14",
    "birds10_cnn_small",
    "birds10_cnn_tiny",
    "birds10_convnext_tiny",
    "birds10_efficientnet_b0",
    "birds10_efficientnet_v2_b0",
    "birds10_ghost_efficientnet_v2",
    "birds10_mixed",
    "birds10_mobilenet_v1",
    "birds10_mobilenet_v2",
    "birds10_resnet_18",
    "birds10_rnn_gru",
    "birds10_rnn_lstm",
    "birds10_vit_tiny",
    "call_or_noise",
    "efficientnet_v2",
    "efficientnet_v2_arcface",
    "efficientnet_v2_from_cnn14",
    "efficientnet_v2_qat",
    "fewshot_v1",
    "fewshot_v1_mlflow",
    "fewshot_v2",
    "fewshot_v2_conv_gate",
    "fewshot_v2_mlflow",
    "fewshot_v2_wide",
    "ghost_efficientnet_v2",
    "ghost_efficientnet_v2_from_efficientnet_v2",
    "ghost_efficientnet_v2_qat",
    "panns_cnn14",
    "panns_cnn14_qat",
    "panns_mobilenetv1",
    "panns_mobilenetv1_from_cnn14",
    "panns_mobilenetv1_qat",
    "panns_mobilenetv2",
    "panns_mobilenetv2_from_cnn14",
    "panns_mobilenetv2_qat",
    "soundscapes",
    "soundscapes_birdnet",
    "space_animal_spot",
    "space_birdclef2025",
    "space_birds10_cnn",
    "space_birds10_families",
    "xc171",
    "xc171_episodes",
]
