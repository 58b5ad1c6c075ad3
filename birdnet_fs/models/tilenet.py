"""TileNet: the encoder of Tile2Vec, made to bring neighboring pieces of a recording together without any label.

Source: Jean et al. 2019, "Tile2Vec: Unsupervised Representation Learning for Spatially Distributed Data", AAAI,
https://arxiv.org/abs/1805.02855 (a ResNet-18 with a fifth stage and a 3x3 first convolution); the sizes are those of
the BirdCLEF 2022 solution that trained it on bird motifs, https://github.com/dsgt-birdclef/birdclef-2022. There a
trainable mel matrix (131,136 numbers in v2) stands in front of the network; here the features come from the package's
front-end and that matrix is no part of the network. TileNet has no class layer: a head sits on the embedding z.
"""

from dataclasses import dataclass

import keras
from keras import layers

from birdnet_fs.models.blocks import Backbone, mean_over_bands, padded_as_torch

SOURCE = "Jean et al. 2019, https://arxiv.org/abs/1805.02855; sizes of github.com/dsgt-birdclef/birdclef-2022"
MIN_SHAPE = (32, 32)  # (n_frames, n_mels): five halvings
EPSILON, MOMENTUM = 1e-5, 0.9  # torch's BatchNorm defaults (Keras' momentum is 1 - torch's)
POOL = 4  # side of the window that averages the last map


@dataclass(frozen=True)
class Size:
    """One variant: a first convolution, stages of two residual blocks each, and average pooling."""

    stages: tuple[int, ...]  # channels; the last is the width of the embedding z; all but the first stage halve the map
    n_pools: int  # how often POOL x POOL cells of the last map are averaged
    stem: int = 64  # channels of the first convolution
    stem_stride: int = 1


VARIANTS = {
    "v2": Size(stages=(64, 128, 64), n_pools=2),  # v3 is v2 trained on other triplets; 65 frames x 64 mels
    "v4": Size(stages=(64, 128, 256, 512, 512), n_pools=1),  # 65 frames x 64 mels
    "v5": Size(stages=(64, 128, 256, 512, 512), n_pools=1, stem_stride=2),  # also v6; 131 frames x 128 mels
}


def backbone(variant: str, features: keras.KerasTensor) -> Backbone:
    """The network of one row of VARIANTS on features [batch, n_frames, n_mels, n_channels].

    On features of the published shape one cell is left after pooling, and the embedding is that cell. On a longer
    segment it is the mean of the cells; a map smaller than a pooling window is averaged whole.
    """
    size = VARIANTS[variant]
    x = layers.ReLU(name="stem_relu")(_conv(features, size.stem, 3, size.stem_stride, "stem"))
    for stage, channels in enumerate(size.stages, 1):
        for block, stride in (("a", 1 if stage == 1 else 2), ("b", 1)):
            x = _residual(x, channels, stride, f"stage{stage}{block}")
    frames = mean_over_bands(x)
    for i in range(1, size.n_pools + 1):
        x = layers.AveragePooling2D((min(POOL, x.shape[1]), min(POOL, x.shape[2])), name=f"pool{i}")(x)
    return Backbone(frames, layers.GlobalAveragePooling2D(name="embedding")(x))


def _residual(x: keras.KerasTensor, channels: int, stride: int, name: str) -> keras.KerasTensor:
    """ResNet's basic block: two 3x3 convolutions beside the input, which a 1x1 one fits where the shape changes."""
    y = layers.ReLU(name=f"{name}_relu1")(_conv(x, channels, 3, stride, f"{name}_1"))
    y = _conv(y, channels, 3, 1, f"{name}_2")
    if stride != 1 or x.shape[-1] != channels:
        x = _conv(x, channels, 1, stride, f"{name}_shortcut")
    return layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([y, x]))


def _conv(x: keras.KerasTensor, channels: int, kernel: int, stride: int, name: str) -> keras.KerasTensor:
    """Convolution without bias, then BatchNorm."""
    x, padding = padded_as_torch(x, kernel, stride, name)
    x = layers.Conv2D(channels, kernel, stride, padding=padding, use_bias=False, name=f"{name}_conv")(x)
    return layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name=f"{name}_bn")(x)
