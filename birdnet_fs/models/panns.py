"""PANNs: CNN14, MobileNetV1 and MobileNetV2, the convolutional networks that were pretrained on AudioSet.

Source: Kong et al. 2020, "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition",
https://arxiv.org/abs/1912.10211, with the details of the authors' code
(https://github.com/qiuqiangkong/audioset_tagging_cnn, pytorch/models.py). As published: a BatchNorm of each mel band
in front, SpecAugment in training, average pooling in place of strides, max plus mean over time, a dense layer with
ReLU as embedding. Their Glorot uniform initialization is Keras' default. The published features are log-mel decibels
without normalization at 32 kHz, 100 frames per second, 64 mels, one channel (the front-end preset "panns"). bn0 has
one weight per mel band, so weights fit one n_mels only. The published class layer reads the embedding without dropout,
as with `build(dropout=0)`. Mixup of features is part of training, not of the network.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers

from birdnet_fs.models.blocks import Backbone
from birdnet_fs.models.spec_augment import SpecAugment

SOURCE = "Kong et al. 2020, https://arxiv.org/abs/1912.10211"
MIN_SHAPE = (32, 32)  # (n_frames, n_mels): five halvings
EPSILON, MOMENTUM = 1e-5, 0.9  # torch's BatchNorm defaults (Keras' momentum is 1 - torch's)
RELU6 = 6.0  # maximum of the ReLU of MobileNetV2


@dataclass(frozen=True)
class Stage:
    """A row of a network's table: blocks of one kind.

    Attributes:
        block: Kind of block, a key of BLOCKS.
        channels: Channels of its output.
        n_blocks: Number of blocks.
        pool: Side of the average pooling of the first block.
        expand: Width inside a block "inverted" / width of its input.
    """

    block: str
    channels: int
    n_blocks: int = 1
    pool: int = 1
    expand: int = 1


@dataclass(frozen=True)
class Size:
    """One variant.

    Attributes:
        stages: The table of stages.
        embedding: Width of the embedding.
        stem: Channels of a first 3x3 convolution, pooled by 2; 0 for none.
        top: Channels of a last 1x1 convolution; 0 for none.
        relu_max: Maximum of the ReLU of stem and top; None for none.
        block_dropout: Dropout rate after every block.
        pooled_dropout: Dropout rate in front of the embedding.
        n_stripes: Stripes of SpecAugment in time and in frequency each; 0 for none.
    """

    stages: tuple[Stage, ...]
    embedding: int
    stem: int = 0
    top: int = 0
    relu_max: float | None = None
    block_dropout: float = 0.0
    pooled_dropout: float = 0.5
    n_stripes: int = 2


VARIANTS = {
    "cnn14": Size(
        (*(Stage("double", channels, pool=2) for channels in (64, 128, 256, 512, 1024)), Stage("double", 2048)),
        embedding=2048,
        block_dropout=0.2,
    ),
    "mobilenet_v1": Size(
        (
            Stage("separable", 64),
            Stage("separable", 128, pool=2),
            Stage("separable", 128),
            Stage("separable", 256, pool=2),
            Stage("separable", 256),
            Stage("separable", 512, n_blocks=6, pool=2),
            Stage("separable", 1024, n_blocks=2, pool=2),
        ),
        embedding=1024,
        stem=32,
    ),
    "mobilenet_v2": Size(
        (
            Stage("inverted", 16),
            Stage("inverted", 24, n_blocks=2, pool=2, expand=6),
            Stage("inverted", 32, n_blocks=3, pool=2, expand=6),
            Stage("inverted", 64, n_blocks=4, pool=2, expand=6),
            Stage("inverted", 96, n_blocks=3, pool=2, expand=6),
            Stage("inverted", 160, n_blocks=3, expand=6),
            Stage("inverted", 320, expand=6),
        ),
        embedding=1024,
        stem=32,
        top=1280,
        relu_max=RELU6,
        pooled_dropout=0.0,
    ),
}


def backbone(variant: str, features: keras.KerasTensor) -> Backbone:
    """Build the backbone of a variant (a key of VARIANTS) on features [batch, n_frames, n_mels, n_channels].

    Features may be raw decibels: bn0 normalizes each band to mean 0 and variance 1, over all channels together.
    """
    size = VARIANTS[variant]
    x = layers.BatchNormalization(axis=2, epsilon=EPSILON, momentum=MOMENTUM, name="bn0")(features)
    x = SpecAugment(n_time_stripes=size.n_stripes, n_mel_stripes=size.n_stripes, name="spec_augment")(x)
    if size.stem:
        x = _conv(x, size.stem, "stem", side=3, pool=2, relu_max=size.relu_max)
    number = 0
    for stage in size.stages:
        for repeat in range(stage.n_blocks):
            number += 1
            x = BLOCKS[stage.block](x, stage, stage.pool if repeat == 0 else 1, f"block{number}")
            if size.block_dropout:
                x = layers.Dropout(size.block_dropout, name=f"block{number}_dropout")(x)
    if size.top:
        x = _conv(x, size.top, "top", side=1, relu_max=size.relu_max)
    x = layers.AveragePooling2D((1, x.shape[2]), name="mean_over_mels")(x)
    frames = layers.Reshape((x.shape[1], x.shape[3]), name="frames")(x)
    pooled = layers.Add(name="pooled")(
        [layers.GlobalMaxPooling2D(name="max_over_time")(x), layers.GlobalAveragePooling2D(name="mean_over_time")(x)]
    )
    if size.pooled_dropout:
        pooled = layers.Dropout(size.pooled_dropout, name="pooled_dropout")(pooled)
    return Backbone(frames, layers.Dense(size.embedding, activation="relu", name="embedding")(pooled))


def _double(x: keras.KerasTensor, stage: Stage, pool: int, name: str) -> keras.KerasTensor:
    x = _conv(x, stage.channels, f"{name}_1", side=3)
    x = _conv(x, stage.channels, f"{name}_2", side=3)
    return layers.AveragePooling2D(pool, name=f"{name}_pool")(x) if pool > 1 else x


def _separable(x: keras.KerasTensor, stage: Stage, pool: int, name: str) -> keras.KerasTensor:
    x = _conv(x, None, f"{name}_depthwise", side=3, pool=pool)
    return _conv(x, stage.channels, f"{name}_pointwise", side=1)


def _inverted(x: keras.KerasTensor, stage: Stage, pool: int, name: str) -> keras.KerasTensor:
    y = x
    if stage.expand > 1:
        y = _conv(y, x.shape[-1] * stage.expand, f"{name}_expand", side=1, relu_max=RELU6)
    y = _conv(y, None, f"{name}_depthwise", side=3, pool=pool, relu_max=RELU6)
    y = _conv(y, stage.channels, f"{name}_project", side=1, activate=False)
    return layers.Add(name=f"{name}_add")([x, y]) if pool == 1 and x.shape[-1] == stage.channels else y


BLOCKS: dict[str, Callable[[keras.KerasTensor, Stage, int, str], keras.KerasTensor]] = {
    "double": _double,
    "separable": _separable,
    "inverted": _inverted,
}


def _conv(
    x: keras.KerasTensor,
    channels: int | None,
    name: str,
    *,
    side: int,
    pool: int = 1,
    relu_max: float | None = None,
    activate: bool = True,
) -> keras.KerasTensor:
    """A convolution without bias (depthwise where `channels` is None), average pooling, BatchNorm, ReLU."""
    if channels is None:
        x = layers.DepthwiseConv2D(side, padding="same", use_bias=False, name=f"{name}_conv")(x)
    else:
        x = layers.Conv2D(channels, side, padding="same", use_bias=False, name=f"{name}_conv")(x)
    if pool > 1:
        x = layers.AveragePooling2D(pool, name=f"{name}_pool")(x)
    x = layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name=f"{name}_bn")(x)
    return layers.ReLU(max_value=relu_max, name=f"{name}_relu")(x) if activate else x
