"""TileNet: the encoder of Tile2Vec, which learns similar embeddings of neighboring segments without labels.

Source: Jean et al. 2019, "Tile2Vec: Unsupervised Representation Learning for Spatially Distributed Data", AAAI,
https://arxiv.org/abs/1805.02855 (a ResNet-18 with a fifth stage and a 3x3 first convolution); the sizes are those of
the BirdCLEF 2022 solution that trained it on bird motifs, https://github.com/dsgt-birdclef/birdclef-2022. That
solution has a trainable mel matrix (131,136 parameters in v2) in front of the network (trainable_mel.py); without it
the features come from the package's front-end. Its v5 also trained the Fourier transform (16.8 million parameters),
which is fixed here. TileNet has no class layer: a head is added to the embedding z.
"""

from dataclasses import dataclass

import keras
from keras import layers

from birdnet_fs.core.errors import UserError
from birdnet_fs.models.blocks import Backbone, mean_over_bands, padded_as_torch
from birdnet_fs.models.trainable_mel import TrainableMel

SOURCE = "Jean et al. 2019, https://arxiv.org/abs/1805.02855; sizes of github.com/dsgt-birdclef/birdclef-2022"
MIN_SHAPE = (32, 32)  # (n_frames, n_mels): five halvings
EPSILON, MOMENTUM = 1e-5, 0.9  # torch's BatchNorm defaults (Keras' momentum is 1 - torch's)
POOL = 4  # side of the average pooling window


@dataclass(frozen=True)
class Size:
    """One variant: a first convolution, stages of two residual blocks each, and average pooling.

    Attributes:
        stages: Channels of each stage; the last is the width of the embedding z. All but the first halve the map.
        n_pools: Number of average poolings of POOL x POOL cells after the last stage.
        stem: Channels of the first convolution.
        stem_stride: Stride of the first convolution.
        n_mels: Bands of the trainable mel matrix, where there is one.
    """

    stages: tuple[int, ...]
    n_pools: int
    stem: int = 64
    stem_stride: int = 1
    n_mels: int = 64


VARIANTS = {
    "v2": Size(stages=(64, 128, 64), n_pools=2),  # v3 is v2 trained on other triplets; 65 frames x 64 mels
    "v4": Size(stages=(64, 128, 256, 512, 512), n_pools=1),  # 65 frames x 64 mels
    "v5": Size(stages=(64, 128, 256, 512, 512), n_pools=1, stem_stride=2, n_mels=128),  # also v6; 131 frames x 128 mels
}


def backbone(variant: str, features: keras.KerasTensor, trainable_mel: str = "none") -> Backbone:
    """Build the backbone of a variant.

    With features of the published shape, pooling leaves one cell, which is the embedding. With a longer segment the
    embedding is the mean of the cells; a map smaller than the pooling window is averaged whole.

    Args:
        variant: A key of VARIANTS.
        features: Input [batch, n_frames, n_mels, n_channels]; with a trainable mel matrix power spectra [batch,
            n_frames, n_bins, 1].
        trainable_mel: "log" or "linear": a mel matrix is the first layer, see `TrainableMel`. Default: "none".

    Returns:
        Frames and embedding.

    Raises:
        UserError: Power spectra with several channels.
    """
    size = VARIANTS[variant]
    if trainable_mel != "none":
        if features.shape[-1] != 1:
            raise UserError(
                f"model.trainable_mel needs features of one channel (frontend.n_channels=1). "
                f"Received: {features.shape[-1]}"
            )
        features = TrainableMel(size.n_mels, log=trainable_mel == "log", name="mel")(features)
    x = layers.ReLU(name="stem_relu")(_conv(features, size.stem, 3, size.stem_stride, "stem"))
    for stage, channels in enumerate(size.stages, 1):
        for block, stride in (("a", 1 if stage == 1 else 2), ("b", 1)):
            x = _residual(x, channels, stride, f"stage{stage}{block}")
    frames = mean_over_bands(x)
    for i in range(1, size.n_pools + 1):
        x = layers.AveragePooling2D((min(POOL, x.shape[1]), min(POOL, x.shape[2])), name=f"pool{i}")(x)
    return Backbone(frames, layers.GlobalAveragePooling2D(name="embedding")(x))


def _residual(x: keras.KerasTensor, channels: int, stride: int, name: str) -> keras.KerasTensor:
    """Basic block of ResNet: two 3x3 convolutions and a shortcut, with a 1x1 convolution where the shape changes."""
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
