"""Encoders of few-shot prototypical networks, whose embeddings have length 1.

Source: Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175;
the encoders V1 and V2 are those of https://github.com/nnayz/uhh_project_dsai for the DCASE few-shot task, there on
128 mels x 512 frames. V2 is a ResNet (He et al. 2016, https://arxiv.org/abs/1512.03385) with channel attention from
mean and maximum in its blocks (Woo et al. 2018, CBAM, https://arxiv.org/abs/1807.06521, section 3.1) and temporal
attention at the end: self-attention as in its design ("mha"), or the convolutions of its published code ("conv_gate").
BatchNorm epsilon 1e-5 and momentum .9, as torch's defaults. V2's learned distance is in heads/prototypes.py.

With the linear head the logits are w . z + b with |z| = 1, so the range of the logits depends on the length of w:
training is slow at first, and works best with little weight decay. The head "cosine" has a scale instead.
"""

import math
from dataclasses import dataclass, replace

import keras
from keras import layers

from birdnet_fs.core.errors import UserError
from birdnet_fs.models.blocks import Backbone, mean_over_bands, padded_as_torch

SOURCE = "Snell et al. 2017, https://arxiv.org/abs/1703.05175; encoders of github.com/nnayz/uhh_project_dsai"
MIN_SHAPE = (16, 16)  # (n_frames, n_mels): three halvings leave two cells
EPSILON, MOMENTUM = 1e-5, 0.9
N_HEADS = 8  # of the self-attention over time
SQUEEZE = 16  # reduction of the channels inside channel attention
GATE_SQUEEZE = 8  # reduction of the channels inside "conv_gate"


@dataclass(frozen=True)
class PlainSize:
    """V1: 3x3 convolutions that each halve the map, global average pooling, one dense layer.

    Attributes:
        channels: Channels of each convolution.
        width: Width of the embedding.
    """

    channels: tuple[int, ...] = (64, 128)
    width: int = 2048


@dataclass(frozen=True)
class ResidualSize:
    """V2: residual blocks, temporal attention, global mean and maximum, one dense layer.

    Attributes:
        channels: Channels of each block; all but the first halve the map.
        width: Width of the embedding.
        temporal_attention: "mha" or "conv_gate", a key of TEMPORAL_ATTENTION.
    """

    channels: tuple[int, ...] = (32, 64, 128, 256)
    width: int = 1024
    temporal_attention: str = "mha"


VARIANTS: dict[str, PlainSize | ResidualSize] = {
    "v2": ResidualSize(),
    "v2_conv_gate": ResidualSize(temporal_attention="conv_gate"),
    "v2_wide": ResidualSize(channels=(64, 128, 256, 512), width=2048),
    "v2_wide_conv_gate": ResidualSize(channels=(64, 128, 256, 512), width=2048, temporal_attention="conv_gate"),
    "v1": PlainSize(),
}


def backbone(
    variant: str, features: keras.KerasTensor, channels: tuple[int, ...] = (), block_dropout: float = 0.1
) -> Backbone:
    """Build the encoder of a variant; its embeddings have length 1.

    Args:
        variant: A key of VARIANTS.
        features: Input [batch, n_frames, n_mels, n_channels].
        channels: Channels of each block, as many as the variant has; those of V2 are multiples of 16. Default: (),
            those of the variant.
        block_dropout: Rate of V2's spatial dropout inside a block and of its dropout in front of the embedding, in
            [0, 1). Default: 0.1.

    Returns:
        Frames and embedding.

    Raises:
        UserError: `channels` has another length than the variant has blocks, or a number that attention cannot divide.
    """
    size = VARIANTS[variant]
    if channels:
        step = SQUEEZE if isinstance(size, ResidualSize) else 1  # a multiple of 16 is divisible by the 8 heads too
        if len(channels) != len(size.channels) or any(n < step or n % step for n in channels):
            raise UserError(
                f"model.channels must be {len(size.channels)} whole numbers, each a multiple of {step}, such as "
                f"{list(size.channels)}. Received: {list(channels)}"
            )
        size = replace(size, channels=channels)
    if isinstance(size, PlainSize):
        x, pooled = _plain(features, size)
    else:
        x, pooled = _residual(features, size, block_dropout)
    embedding = layers.Dense(size.width, name="embedding_dense")(pooled)
    return Backbone(mean_over_bands(x), layers.UnitNormalization(name="embedding")(embedding))


def _plain(x: keras.KerasTensor, size: PlainSize) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    for i, channels in enumerate(size.channels, 1):
        x = layers.ReLU(name=f"block{i}_relu")(_conv(x, channels, 3, 1, f"block{i}", bias=True))
        x = layers.MaxPooling2D(2, name=f"block{i}_pool")(x)
    return x, layers.GlobalAveragePooling2D(name="mean")(x)


def _residual(x: keras.KerasTensor, size: ResidualSize, dropout: float) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    x = layers.ReLU(name="stem_relu")(_conv(x, size.channels[0], 3, 1, "stem"))
    for i, channels in enumerate(size.channels, 1):
        x = _block(x, channels, 1 if i == 1 else 2, dropout, f"block{i}")
    x = TEMPORAL_ATTENTION[size.temporal_attention](x)
    pooled = layers.Concatenate(name="mean_and_max")(
        [layers.GlobalAveragePooling2D(name="mean")(x), layers.GlobalMaxPooling2D(name="max")(x)]
    )
    return x, layers.Dropout(dropout, name="embedding_dropout")(pooled)


def _block(x: keras.KerasTensor, channels: int, stride: int, dropout: float, name: str) -> keras.KerasTensor:
    """Basic block of ResNet, with channel attention before the sum with the shortcut."""
    y = layers.ReLU(name=f"{name}_relu1")(_conv(x, channels, 3, stride, f"{name}_1"))
    y = layers.SpatialDropout2D(dropout, name=f"{name}_dropout")(y)
    y = _channel_attention(_conv(y, channels, 3, 1, f"{name}_2"), name)
    if stride != 1 or x.shape[-1] != channels:
        x = _conv(x, channels, 1, stride, f"{name}_shortcut")
    return layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([y, x]))


def _channel_attention(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Multiply each channel by a weight in 0..1 from the means and maxima of all channels, through shared layers."""
    channels = x.shape[-1]
    squeeze = layers.Dense(channels // SQUEEZE, activation="relu", use_bias=False, name=f"{name}_se_squeeze")
    excite = layers.Dense(channels, use_bias=False, name=f"{name}_se_excite")
    from_mean = excite(squeeze(layers.GlobalAveragePooling2D(name=f"{name}_se_mean")(x)))
    from_max = excite(squeeze(layers.GlobalMaxPooling2D(name=f"{name}_se_max")(x)))
    weight = layers.Add(name=f"{name}_se_add")([from_mean, from_max])
    weight = layers.Activation("sigmoid", name=f"{name}_se_weight")(weight)
    weight = layers.Reshape((1, 1, channels), name=f"{name}_se_shape")(weight)
    return layers.Multiply(name=f"{name}_se_weighed")([x, weight])


def _mha(x: keras.KerasTensor) -> keras.KerasTensor:
    """Self-attention between the frames (means over the bands), added to all bands of a frame."""
    n_frames, n_bands, channels = x.shape[1:]
    frames = layers.AveragePooling2D((1, n_bands), name="time_mean")(x)
    frames = layers.Reshape((n_frames, channels), name="time_frames")(frames)
    bound = math.sqrt(3 / channels)  # Glorot uniform; Keras would treat a kernel of three axes as a convolution's
    attended = layers.MultiHeadAttention(
        N_HEADS,
        channels // N_HEADS,
        kernel_initializer=keras.initializers.RandomUniform(-bound, bound),
        name="time_attention",
    )(frames, frames)
    attended = layers.Add(name="time_residual")([frames, attended])
    attended = layers.Reshape((n_frames, 1, channels), name="time_shape")(attended)
    return layers.Add(name="time_add")([x, attended])


def _conv_gate(x: keras.KerasTensor) -> keras.KerasTensor:
    """Multiply each channel of each frame by a weight in 0..1 from the means over the bands."""
    gate = layers.AveragePooling2D((1, x.shape[2]), name="time_mean")(x)
    gate = layers.Conv2D(x.shape[-1] // GATE_SQUEEZE, 1, activation="relu", name="time_squeeze")(gate)
    gate = layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name="time_excite")(gate)
    return layers.Multiply(name="time_weighed")([x, gate])


TEMPORAL_ATTENTION = {"mha": _mha, "conv_gate": _conv_gate}


def _conv(
    x: keras.KerasTensor, channels: int, kernel: int, stride: int, name: str, *, bias: bool = False
) -> keras.KerasTensor:
    """Convolution, then BatchNorm."""
    x, padding = padded_as_torch(x, kernel, stride, name)
    x = layers.Conv2D(channels, kernel, stride, padding=padding, use_bias=bias, name=f"{name}_conv")(x)
    return layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name=f"{name}_bn")(x)
