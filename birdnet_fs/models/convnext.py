"""ConvNeXt-T, -S, -B and -L without their last LayerNorm, as the ANIMAL-SPOT fork uses ConvNeXt-T.

Source: Liu et al. 2022, "A ConvNet for the 2020s", CVPR, sections 2 and A, https://arxiv.org/abs/2201.03545: a 4x4
convolution with stride 4, blocks of depthwise 7x7, LayerNorm and two 1x1 convolutions around a GELU, LayerNorm and a
2x2 convolution with stride 2 between stages; LayerNorm over channels with epsilon 1e-6, LayerScale 1e-6, stochastic
depth that rises linearly to .1 (T), .4 (S) or .5 (B, L), weights from a normal distribution of deviation .02. The
paper applies LayerNorm to the average of the last map; the fork passes torchvision's `features` directly to the average
and the last layer.

ConvNeXt needs a small learning rate: without warm-up, training from random weights works with AdamW at 5e-5 to 2e-4;
at 2e-3 the loss rises tenfold and does not recover (ANIMAL-SPOT's fork uses 8e-6; the paper 4e-3, for batches of
4,096 and after 20 epochs of warm-up).

The strided convolutions do not pad: n frames (or mels) become floor(n / 4) steps, which are then halved three times,
rounded down. If n is no multiple of 32, the rest, at most the last 31 frames, is cropped; it reaches the output only
through the 7x7 kernels of neighboring steps.
"""

from dataclasses import dataclass

import keras
from keras import layers

from birdnet_fs.models.blocks import Backbone, LayerScale, add_branch, block_name, mean_over_bands

SOURCE = "Liu et al. 2022, https://arxiv.org/abs/2201.03545, without the last LayerNorm (ANIMAL-SPOT fork)"
MIN_SHAPE = (32, 32)  # (n_frames, n_mels): reduction by 4 x 2 x 2 x 2 leaves one cell
EPSILON = 1e-6
LAYER_SCALE = 1e-6  # every block starts as the identity
EXPAND = 4  # width inside a block / its width


@dataclass(frozen=True)
class Size:
    """One variant.

    Attributes:
        n_blocks: Blocks of each stage.
        channels: Channels of each stage.
        drop: Probability to drop the last block's branch in training; that of the first is 0.
    """

    n_blocks: tuple[int, ...]
    channels: tuple[int, ...]
    drop: float


VARIANTS = {
    "tiny": Size(n_blocks=(3, 3, 9, 3), channels=(96, 192, 384, 768), drop=0.1),
    "small": Size(n_blocks=(3, 3, 27, 3), channels=(96, 192, 384, 768), drop=0.4),
    "base": Size(n_blocks=(3, 3, 27, 3), channels=(128, 256, 512, 1024), drop=0.5),
    "large": Size(n_blocks=(3, 3, 27, 3), channels=(192, 384, 768, 1536), drop=0.5),
}


def backbone(variant: str, features: keras.KerasTensor) -> Backbone:
    """Build the backbone of a variant (a key of VARIANTS) on features [batch, n_frames, n_mels, n_channels]."""
    size = VARIANTS[variant]
    x = layers.Conv2D(size.channels[0], 4, 4, kernel_initializer=_kernels(), name="stem_conv")(features)
    x = layers.LayerNormalization(epsilon=EPSILON, name="stem_norm")(x)
    done = 0
    for stage, (channels, n_blocks) in enumerate(zip(size.channels, size.n_blocks, strict=True), 1):
        if stage > 1:
            x = layers.LayerNormalization(epsilon=EPSILON, name=f"down{stage}_norm")(x)
            x = layers.Conv2D(channels, 2, 2, kernel_initializer=_kernels(), name=f"down{stage}_conv")(x)
        for repeat in range(n_blocks):
            drop = size.drop * done / (sum(size.n_blocks) - 1)
            x = _block(x, drop, block_name(stage, repeat))
            done += 1
    return Backbone(mean_over_bands(x), layers.GlobalAveragePooling2D(name="embedding")(x))


def _block(x: keras.KerasTensor, drop: float, name: str) -> keras.KerasTensor:
    channels = x.shape[-1]
    y = layers.DepthwiseConv2D(7, padding="same", depthwise_initializer=_kernels(), name=f"{name}_depthwise_conv")(x)
    y = layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm")(y)
    y = layers.Dense(EXPAND * channels, activation="gelu", kernel_initializer=_kernels(), name=f"{name}_expand")(y)
    y = layers.Dense(channels, kernel_initializer=_kernels(), name=f"{name}_project")(y)
    return add_branch(x, LayerScale(LAYER_SCALE, name=f"{name}_layer_scale")(y), drop, name)


def _kernels() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.02)  # the paper's truncation at 100 deviations has no effect
