"""Ghost EfficientNetV2: EfficientNetV2-S with Ghost modules, channel attention by ECA, and LayerScale.

Sources: the network of Project Echo's `torch_impl` (https://github.com/DataBytes-Organisation/Project-Echo), which
combines Tan, Le 2021, table 4, https://arxiv.org/abs/2104.00298; Han et al. 2020, "GhostNet", CVPR, section 3.1,
https://arxiv.org/abs/1911.11907 (with SiLU in place of ReLU); Wang et al. 2020, "ECA-Net", CVPR, section 3.2,
https://arxiv.org/abs/1910.03151; LayerScale 1e-5 (blocks.py). BatchNorm, padding and initialization are torch's.
"""

import math
from dataclasses import dataclass

import keras
from keras import layers

from birdnet_fs.models.blocks import Backbone, LayerScale, add_branch, block_name, mean_over_bands, padded_as_torch
from birdnet_fs.models.efficientnet_v2 import S, Stage

SOURCE = "Project Echo's torch_impl: Tan & Le 2021 with GhostNet, https://arxiv.org/abs/1911.11907, and ECA-Net"
MIN_SHAPE = (32, 32)  # (n_frames, n_mels): five halvings leave one cell
EPSILON, MOMENTUM = 1e-5, 0.9
LAYER_SCALE = 1e-5
DROP = 0.1  # in training the branch of block i of n is dropped with probability DROP * i / n


@dataclass(frozen=True)
class Size:
    """One variant: a scaling of EfficientNetV2-S. The scaled channels must be even, for the halves of a Ghost module.

    Attributes:
        stages: The table of stages.
        stem: Channels of the first convolution, before scaling.
        width: Factor of all channels, which are rounded down.
        depth: Factor of all n_blocks, which are rounded up.
    """

    stages: tuple[Stage, ...] = S
    stem: int = 24
    width: float = 1.0
    depth: float = 1.0


VARIANTS = {"0.75": Size(width=0.75), "1.0": Size(), "0.75_depth_0.5": Size(width=0.75, depth=0.5)}


def backbone(variant: str, features: keras.KerasTensor) -> Backbone:
    """Build the backbone of a variant (a key of VARIANTS) on features [batch, n_frames, n_mels, n_channels]."""
    size = VARIANTS[variant]
    x = _conv(features, int(size.stem * size.width), "stem", kernel=3, stride=2)
    n_blocks = [math.ceil(stage.n_blocks * size.depth) for stage in size.stages]
    done = 0
    for number, (stage, repeats) in enumerate(zip(size.stages, n_blocks, strict=True), 1):
        for repeat in range(repeats):
            drop = DROP * done / sum(n_blocks)
            stride = stage.stride if repeat == 0 else 1
            x = _block(x, int(stage.channels * size.width), stage, stride, drop, block_name(number, repeat))
            done += 1
    return Backbone(mean_over_bands(x), layers.GlobalAveragePooling2D(name="embedding")(x))


def _block(x: keras.KerasTensor, channels: int, stage: Stage, stride: int, drop: float, name: str) -> keras.KerasTensor:
    inside = x.shape[-1] * stage.expand
    if stage.fused and stage.expand > 1:
        y = _ghost(x, inside, f"{name}_expand", kernel=3, stride=stride)
    else:
        y = x if stage.fused else _ghost(x, inside, f"{name}_expand")
        y = _depthwise(y, f"{name}_depthwise", stride=stride)
    y = _ghost(_channel_attention(y, f"{name}_eca"), channels, f"{name}_project", activate=False)
    residual = stride == 1 and x.shape[-1] == channels
    # Project Echo has factors in every block and applies them in residual ones only; here the others start at 1
    y = LayerScale(LAYER_SCALE if residual else 1.0, name=f"{name}_layer_scale")(y)
    return add_branch(x, y, drop, name) if residual else y


def _ghost(
    x: keras.KerasTensor, channels: int, name: str, *, kernel: int = 1, stride: int = 1, activate: bool = True
) -> keras.KerasTensor:
    """Ghost module: half of the channels from a convolution, the other half from a depthwise 3x3 on the first half."""
    half = _conv(x, channels // 2, f"{name}_primary", kernel=kernel, stride=stride, activate=activate)
    cheap = _depthwise(half, f"{name}_cheap", activate=activate)
    return layers.Concatenate(name=f"{name}_halves")([half, cheap])


def _channel_attention(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """ECA: the weight of a channel is a convolution over the means of the channels next to it."""
    channels = x.shape[-1]
    kernel = int((math.log2(channels) + 1) / 2) | 1  # the next odd number
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    gate = layers.Reshape((channels, 1, 1), name=f"{name}_as_row")(gate)
    gate = layers.Conv2D(
        1,
        (kernel, 1),
        padding="same",
        use_bias=False,
        activation="sigmoid",
        kernel_initializer=_kernels(),
        name=f"{name}_conv",
    )(gate)
    gate = layers.Reshape((1, 1, channels), name=f"{name}_as_channels")(gate)
    return layers.Multiply(name=f"{name}_excite")([x, gate])


def _conv(
    x: keras.KerasTensor, channels: int, name: str, *, kernel: int, stride: int = 1, activate: bool = True
) -> keras.KerasTensor:
    x, padding = padded_as_torch(x, kernel, stride, name)
    x = layers.Conv2D(
        channels, kernel, stride, padding=padding, use_bias=False, kernel_initializer=_kernels(), name=f"{name}_conv"
    )(x)
    return _norm_act(x, name, activate)


def _depthwise(x: keras.KerasTensor, name: str, *, stride: int = 1, activate: bool = True) -> keras.KerasTensor:
    x, padding = padded_as_torch(x, 3, stride, name)
    uniform = keras.initializers.RandomUniform(-1 / 3, 1 / 3)  # 1 / sqrt(9): Keras' fan_in counts all channels
    x = layers.DepthwiseConv2D(
        3, stride, padding=padding, use_bias=False, depthwise_initializer=uniform, name=f"{name}_conv"
    )(x)
    return _norm_act(x, name, activate)


def _norm_act(x: keras.KerasTensor, name: str, activate: bool) -> keras.KerasTensor:
    x = layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name=f"{name}_bn")(x)
    return layers.Activation("silu", name=f"{name}_act")(x) if activate else x


def _kernels() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")  # torch's default
