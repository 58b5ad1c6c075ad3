"""EfficientNetV2 B0-B3 and S: fused and plain inverted residual blocks with squeeze-and-excitation.

Source: Tan, Le 2021, "EfficientNetV2: Smaller Models and Faster Training", ICML, https://arxiv.org/abs/2104.00298;
the table of S is the paper's table 4, B0-B3 are the authors' own scaling of their base table
(https://github.com/google/automl/tree/master/efficientnetv2). As published: SiLU, BatchNorm epsilon 1e-3 and
momentum .9, stochastic depth whose survival probability falls linearly to .8. The network does not rescale its input
and accepts any number of channels. Strided convolutions are padded as in the authors' TensorFlow code and in Keras;
`s_torch` is torchvision's S, which pads them on both sides (Project Echo's torch_impl trains it).
"""

import math
from dataclasses import dataclass

import keras
from keras import layers

from birdnet_fs.models.blocks import Backbone, add_branch, block_name, mean_over_bands, padded_as_torch

SOURCE = "Tan & Le 2021, https://arxiv.org/abs/2104.00298"
MIN_SHAPE = (32, 32)  # (n_frames, n_mels): five halvings
SURVIVAL = 0.8  # survival probability of the last block's branch in training; that of the first is 1
MOMENTUM = 0.9


@dataclass(frozen=True)
class Stage:
    """A row of the paper's table: blocks of one kind.

    Attributes:
        fused: Fused-MBConv: one 3x3 convolution in place of 1x1 and depthwise 3x3, no squeeze-and-excitation.
        expand: Width inside a block / width of its input.
        channels: Channels of its output.
        n_blocks: Number of blocks.
        stride: Stride of the first block; the others have 1.
        kernel: Side of the depthwise convolution.
    """

    fused: bool
    expand: int
    channels: int
    n_blocks: int
    stride: int
    kernel: int = 3


BASE = (
    Stage(fused=True, expand=1, channels=16, n_blocks=1, stride=1),
    Stage(fused=True, expand=4, channels=32, n_blocks=2, stride=2),
    Stage(fused=True, expand=4, channels=48, n_blocks=2, stride=2),
    Stage(fused=False, expand=4, channels=96, n_blocks=3, stride=2),
    Stage(fused=False, expand=6, channels=112, n_blocks=5, stride=1),
    Stage(fused=False, expand=6, channels=192, n_blocks=8, stride=2),
)
S = (
    Stage(fused=True, expand=1, channels=24, n_blocks=2, stride=1),
    Stage(fused=True, expand=4, channels=48, n_blocks=4, stride=2),
    Stage(fused=True, expand=4, channels=64, n_blocks=4, stride=2),
    Stage(fused=False, expand=4, channels=128, n_blocks=6, stride=2),
    Stage(fused=False, expand=6, channels=160, n_blocks=9, stride=1),
    Stage(fused=False, expand=6, channels=256, n_blocks=15, stride=2),
)


@dataclass(frozen=True)
class Size:
    """One variant: a table of stages and its scaling.

    Attributes:
        stages: The table.
        stem: Channels of the first convolution, before scaling.
        width: Factor of all channels, which are rounded to multiples of 8.
        depth: Factor of all n_blocks, which are rounded up.
        as_torch: Whether strided convolutions pad all sides equally, as in torch; otherwise as Keras' "same", which at
            even sizes pads the end only.
        epsilon: Constant that BatchNorm adds to the variance.
    """

    stages: tuple[Stage, ...]
    stem: int
    width: float = 1.0
    depth: float = 1.0
    as_torch: bool = False
    epsilon: float = 1e-3


VARIANTS = {
    "b0": Size(BASE, stem=32),
    "b1": Size(BASE, stem=32, depth=1.1),
    "b2": Size(BASE, stem=32, width=1.1, depth=1.2),
    "b3": Size(BASE, stem=32, width=1.2, depth=1.4),
    "s": Size(S, stem=24),
    "s_torch": Size(S, stem=24, as_torch=True),
}
TOP = 1280  # channels of the last convolution, scaled by width


def backbone(variant: str, features: keras.KerasTensor) -> Backbone:
    """Build the backbone of a variant (a key of VARIANTS) on features [batch, n_frames, n_mels, n_channels]."""
    return trunk(features, VARIANTS[variant])


def trunk(features: keras.KerasTensor, size: Size) -> Backbone:
    """Build a network of this family or of the first EfficientNet on features [batch, n_frames, n_mels, n_channels]."""
    x = _conv(features, _scaled(size.stem, size.width), size, "stem", kernel=3, stride=2)
    n_blocks = [math.ceil(stage.n_blocks * size.depth) for stage in size.stages]
    done = 0
    for number, (stage, repeats) in enumerate(zip(size.stages, n_blocks, strict=True), 1):
        for repeat in range(repeats):
            block = _fused_mbconv if stage.fused else _mbconv
            stride = stage.stride if repeat == 0 else 1
            name = block_name(number, repeat)
            y = block(x, _scaled(stage.channels, size.width), size, stage, stride, name)
            if stride == 1 and x.shape[-1] == y.shape[-1]:
                y = add_branch(x, y, (1 - SURVIVAL) * done / sum(n_blocks), name)
            x = y
            done += 1
    x = _conv(x, _scaled(TOP, size.width), size, "top", kernel=1)
    embedding = layers.GlobalAveragePooling2D(name="embedding")(x)
    return Backbone(mean_over_bands(x), embedding)


def _scaled(channels: int, width: float) -> int:
    """Channels times width, rounded to the nearest multiple of 8 as in the authors' code for V2."""
    return max(8, int(channels * width + 4) // 8 * 8)


def _mbconv(x: keras.KerasTensor, channels: int, size: Size, stage: Stage, stride: int, name: str) -> keras.KerasTensor:
    squeezed = max(1, x.shape[-1] // 4)  # a quarter of the block's input, before expansion
    if stage.expand > 1:
        x = _conv(x, x.shape[-1] * stage.expand, size, f"{name}_expand", kernel=1)
    x = _conv(x, None, size, f"{name}_depthwise", kernel=stage.kernel, stride=stride)
    x = _squeeze_excite(x, squeezed, name)
    return _conv(x, channels, size, f"{name}_project", kernel=1, activate=False)


def _fused_mbconv(
    x: keras.KerasTensor, channels: int, size: Size, stage: Stage, stride: int, name: str
) -> keras.KerasTensor:
    if stage.expand == 1:
        return _conv(x, channels, size, f"{name}_project", kernel=3, stride=stride)
    x = _conv(x, x.shape[-1] * stage.expand, size, f"{name}_expand", kernel=3, stride=stride)
    return _conv(x, channels, size, f"{name}_project", kernel=1, activate=False)


def _squeeze_excite(x: keras.KerasTensor, squeezed: int, name: str) -> keras.KerasTensor:
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_se_squeeze")(x)
    for width, activation, part in ((squeezed, "silu", "se_reduce"), (channels, "sigmoid", "se_expand")):
        gate = layers.Conv2D(width, 1, activation=activation, kernel_initializer=_kernel_init(), name=f"{name}_{part}")(
            gate
        )
    return layers.Multiply(name=f"{name}_se_excite")([x, gate])


def _conv(
    x: keras.KerasTensor,
    channels: int | None,
    size: Size,
    name: str,
    *,
    kernel: int,
    stride: int = 1,
    activate: bool = True,
) -> keras.KerasTensor:
    """A convolution without bias (depthwise where `channels` is None), BatchNorm, SiLU."""
    x, padding = padded_as_torch(x, kernel, stride, f"{name}_conv") if size.as_torch else (x, "same")
    settings = {"padding": padding, "use_bias": False, "name": f"{name}_conv"}
    if channels is None:
        x = layers.DepthwiseConv2D(kernel, stride, depthwise_initializer=_kernel_init(), **settings)(x)
    else:
        x = layers.Conv2D(channels, kernel, stride, kernel_initializer=_kernel_init(), **settings)(x)
    x = layers.BatchNormalization(epsilon=size.epsilon, momentum=MOMENTUM, name=f"{name}_bn")(x)
    return layers.Activation("silu", name=f"{name}_act")(x) if activate else x


def _kernel_init() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="truncated_normal")
