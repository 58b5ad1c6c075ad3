"""ResNet-18, -34 and -50, with the options of ANIMAL-SPOT for the max pooling after the first convolution.

Source: He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition", CVPR, table 1,
https://arxiv.org/abs/1512.03385, with the stride in a block's first 3x3 convolution and the initialization of
torchvision. ANIMAL-SPOT (Bergler et al. 2022, https://doi.org/10.1038/s41598-022-26429-y) has one input channel and
can omit the first max pooling, for calls that are short or narrow. BatchNorm epsilon 1e-5, momentum .9 (torch's .1).
"""

from dataclasses import dataclass

import keras
from keras import layers

from birdnet_fs.models.blocks import Backbone, add_branch, block_name, mean_over_bands, padded_as_torch

SOURCE = "He et al. 2016, https://arxiv.org/abs/1512.03385; options of ANIMAL-SPOT"
MIN_SHAPE = (32, 32)  # (n_frames, n_mels): five halvings leave one cell
EPSILON, MOMENTUM = 1e-5, 0.9
WIDEN = 4  # channels of a bottleneck block / those inside


@dataclass(frozen=True)
class Size:
    """One variant.

    Attributes:
        stem: Channels of the first convolution, 7x7 with stride 2.
        channels: Channels of each stage: of its blocks' 3x3 convolutions.
        n_blocks: Blocks of each stage; the first block of every stage but the first has stride 2.
        max_pool: ANIMAL-SPOT's option. 1: max pooling 3x3 with stride 2 after the first convolution. 0: none, and the
            first stage has stride 2 instead. 2: none, and the maps are twice as long on both axes.
        bottleneck: Whether a block is a 3x3 convolution between two 1x1 convolutions, the last of which widens the
            map by `WIDEN`; otherwise it is two 3x3 convolutions.
    """

    stem: int = 64
    channels: tuple[int, ...] = (64, 128, 256, 512)
    n_blocks: tuple[int, ...] = (2, 2, 2, 2)
    max_pool: int = 1
    bottleneck: bool = False


VARIANTS = {
    "18": Size(),
    "18_max_pool_0": Size(max_pool=0),
    "18_max_pool_2": Size(max_pool=2),
    "34": Size(n_blocks=(3, 4, 6, 3)),
    "50": Size(n_blocks=(3, 4, 6, 3), bottleneck=True),
}


def backbone(variant: str, features: keras.KerasTensor) -> Backbone:
    """Build the backbone of a variant (a key of VARIANTS) on features [batch, n_frames, n_mels, n_channels]."""
    size = VARIANTS[variant]
    block = _bottleneck if size.bottleneck else _block
    x = layers.ReLU(name="stem_relu")(_conv(features, size.stem, 7, 2, "stem"))
    if size.max_pool == 1:  # the output of a ReLU is not negative: zeros are equivalent to torch's -inf
        x = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    for stage, (channels, n_blocks) in enumerate(zip(size.channels, size.n_blocks, strict=True), 1):
        for repeat in range(n_blocks):
            stride = 2 if repeat == 0 and (stage > 1 or size.max_pool == 0) else 1
            x = block(x, channels, stride, block_name(stage, repeat))
    return Backbone(mean_over_bands(x), layers.GlobalAveragePooling2D(name="embedding")(x))


def _block(x: keras.KerasTensor, channels: int, stride: int, name: str) -> keras.KerasTensor:
    y = layers.ReLU(name=f"{name}_relu1")(_conv(x, channels, 3, stride, f"{name}_first"))
    y = _conv(y, channels, 3, 1, f"{name}_second")
    return layers.ReLU(name=f"{name}_relu2")(_added(x, y, stride, name))


def _bottleneck(x: keras.KerasTensor, channels: int, stride: int, name: str) -> keras.KerasTensor:
    y = layers.ReLU(name=f"{name}_relu1")(_conv(x, channels, 1, 1, f"{name}_first"))
    y = layers.ReLU(name=f"{name}_relu2")(_conv(y, channels, 3, stride, f"{name}_second"))
    y = _conv(y, WIDEN * channels, 1, 1, f"{name}_third")
    return layers.ReLU(name=f"{name}_relu3")(_added(x, y, stride, name))


def _added(x: keras.KerasTensor, y: keras.KerasTensor, stride: int, name: str) -> keras.KerasTensor:
    """Sum of the input of a block, through a 1x1 convolution where the shape changes, and its branch."""
    if stride != 1 or x.shape[-1] != y.shape[-1]:
        x = _conv(x, y.shape[-1], 1, stride, f"{name}_shortcut")
    return add_branch(x, y, 0.0, name)


def _conv(x: keras.KerasTensor, channels: int, kernel: int, stride: int, name: str) -> keras.KerasTensor:
    x, padding = padded_as_torch(x, kernel, stride, name)
    he = keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
    x = layers.Conv2D(
        channels, kernel, stride, padding=padding, use_bias=False, kernel_initializer=he, name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name=f"{name}_bn")(x)
