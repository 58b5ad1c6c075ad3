"""Encoders of few-shot prototypical networks, whose embeddings have length 1.

Source: Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175;
the encoders V1 and V2 are those of https://github.com/nnayz/uhh_project_dsai for the DCASE few-shot task, there on
128 mels x 512 frames. V2 is a ResNet (He et al. 2016, https://arxiv.org/abs/1512.03385) whose blocks weigh their
channels by mean and maximum (Woo et al. 2018, CBAM, https://arxiv.org/abs/1807.06521, section 3.1), and which weighs
time at the end: by self-attention as its design says, or by the convolutions of its shipped code ("conv_gate").
BatchNorm epsilon 1e-5 and momentum .9, as torch's defaults. V2's learned distance is in heads/prototypes.py.

An ordinary classifier of `models.build` has its linear head on the normalized embedding: logits are w . z + b with
|z| = 1, so how sure it can be depends on the length of w: it learns slowly at first, and best with little weight decay
(the head "cosine" has a scale for that).
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
SQUEEZE = 16  # channels / channels inside the weighing of a block's channels
GATE_SQUEEZE = 8  # the same inside "conv_gate"


@dataclass(frozen=True)
class PlainSize:
    """V1: convolutions of 3x3, each halving the map, their mean, one dense layer."""

    channels: tuple[int, ...] = (64, 128)
    width: int = 2048  # of the embedding


@dataclass(frozen=True)
class ResidualSize:
    """V2: residual blocks, weighing over time, mean and maximum, one dense layer."""

    channels: tuple[int, ...] = (32, 64, 128, 256)  # of each block; all but the first halve the map
    width: int = 1024  # of the embedding
    temporal_attention: str = "mha"  # or "conv_gate"


VARIANTS: dict[str, PlainSize | ResidualSize] = {
    "v2": ResidualSize(),
    "v2_conv_gate": ResidualSize(temporal_attention="conv_gate"),
    "v2_wide_conv_gate": ResidualSize(channels=(64, 128, 256, 512), width=2048, temporal_attention="conv_gate"),
    "v1": PlainSize(),
}


def backbone(
    variant: str, features: keras.KerasTensor, channels: tuple[int, ...] = (), block_dropout: float = 0.1
) -> Backbone:
    """The encoder of one row of VARIANTS on features [batch, n_frames, n_mels, n_channels]: embeddings of length 1.

    Args:
        variant: A key of VARIANTS.
        features: The input.
        channels: Of the blocks, instead of the variant's; () = those.
        block_dropout: Of V2, in [0, 1): of whole maps inside a block, and in front of the embedding.

    Raises:
        UserError: Another number of channels than the variant has blocks, or ones that its attention cannot divide.
    """
    size = VARIANTS[variant]
    if channels:
        size = replace(size, channels=_checked(channels, size))
    if isinstance(size, PlainSize):
        x, pooled = _plain(features, size)
    else:
        x, pooled = _residual(features, size, block_dropout)
    embedding = layers.Dense(size.width, name="embedding_dense")(pooled)
    return Backbone(mean_over_bands(x), layers.UnitNormalization(name="embedding")(embedding))


def _checked(channels: tuple[int, ...], size: PlainSize | ResidualSize) -> tuple[int, ...]:
    step = SQUEEZE if isinstance(size, ResidualSize) else 1  # a multiple of 16 goes into 8 heads as well
    if len(channels) != len(size.channels) or any(n < step or n % step for n in channels):
        raise UserError(
            f"model.channels must be {len(size.channels)} whole numbers, each a multiple of {step}, as "
            f"{list(size.channels)}. Received: {list(channels)}"
        )
    return channels


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
    """ResNet's basic block, its channels weighed before the shortcut joins."""
    y = layers.ReLU(name=f"{name}_relu1")(_conv(x, channels, 3, stride, f"{name}_1"))
    y = layers.SpatialDropout2D(dropout, name=f"{name}_dropout")(y)
    y = _channel_attention(_conv(y, channels, 3, 1, f"{name}_2"), name)
    if stride != 1 or x.shape[-1] != channels:
        x = _conv(x, channels, 1, stride, f"{name}_shortcut")
    return layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([y, x]))


def _channel_attention(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Each map times a weight in 0..1, from the means and from the maxima of all maps through the same two layers."""
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
    """Self-attention between the frames (means over the bands), and what comes of it added to all their bands."""
    n_frames, n_bands, channels = x.shape[1:]
    frames = layers.AveragePooling2D((1, n_bands), name="time_mean")(x)
    frames = layers.Reshape((n_frames, channels), name="time_frames")(frames)
    bound = math.sqrt(3 / channels)  # Glorot's; Keras would take a kernel of three axes for a convolution's
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
    """Each channel of each frame (means over the bands) times a weight in 0..1."""
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
