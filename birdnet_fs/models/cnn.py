"""Small residual networks for training from scratch on tens to hundreds of clips, and one for thousands.

Source: He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385
(blocks of two 3x3 convolutions beside a 1x1 shortcut), and Kong et al. 2020, "PANNs",
https://arxiv.org/abs/1912.10211 (mean over frequency, then max plus mean over time, so that the position of a call
does not matter). Ours: the widths below, max pooling between blocks (calls are sparse in a segment), and a second input
channel from which the mean of each band over the segment is subtracted (stationary background: wind, rain, hum).
"""

from dataclasses import dataclass

import keras
from keras import layers

from birdnet_fs.models.blocks import Backbone

SOURCE = "He et al. 2016, https://arxiv.org/abs/1512.03385, with the pooling of PANNs; ours: widths"
MIN_SHAPE = (16, 16)  # (n_frames, n_mels): four halvings leave one cell
N_HALVED = 3  # blocks followed by pooling; with that of the stem, four halvings
EPSILON, MOMENTUM = 1e-5, 0.9  # torch's BatchNorm defaults (Keras' momentum is 1 - torch's)


@dataclass(frozen=True)
class Size:
    """Widths of one variant.

    Attributes:
        stem: Channels of the first convolution.
        blocks: Channels of each residual block.
    """

    stem: int
    blocks: tuple[int, ...]


VARIANTS = {
    "small": Size(stem=24, blocks=(48, 96, 192)),
    "tiny": Size(stem=16, blocks=(24, 32, 48)),
    "large": Size(stem=32, blocks=(64, 128, 256, 512)),
}


def backbone(variant: str, features: keras.KerasTensor) -> Backbone:
    """Build the backbone of a variant (a key of VARIANTS) on features [batch, n_frames, n_mels, n_channels].

    Features may be raw decibels: the first layers normalize each channel to mean 0 and variance 1.
    """
    size = VARIANTS[variant]
    band_mean = layers.AveragePooling2D((features.shape[1], 1), name="band_mean")(features)
    x = layers.Concatenate(name="bands")([features, layers.Subtract(name="less_mean")([features, band_mean])])
    x = layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name="bn0")(x)
    x = layers.ReLU(name="stem_relu")(_conv(x, size.stem, 3, "stem"))
    x = layers.MaxPooling2D(2, name="stem_pool")(x)
    for block, channels in enumerate(size.blocks, 1):
        name = f"block{block}"
        y = layers.ReLU(name=f"{name}_relu1")(_conv(x, channels, 3, f"{name}_conv1"))
        y = _conv(y, channels, 3, f"{name}_conv2")
        y = layers.Add(name=f"{name}_add")([y, _conv(x, channels, 1, f"{name}_shortcut")])
        y = layers.ReLU(name=f"{name}_relu2")(y)
        x = layers.MaxPooling2D(2, name=f"{name}_pool")(y) if block <= N_HALVED else y
    x = layers.AveragePooling2D((1, x.shape[2]), name="mean_over_mels")(x)
    embedding = layers.Add(name="embedding")(
        [layers.GlobalMaxPooling2D(name="max_over_time")(x), layers.GlobalAveragePooling2D(name="mean_over_time")(x)]
    )
    return Backbone(layers.Reshape((x.shape[1], x.shape[3]), name="frames")(x), embedding)


def _conv(x: keras.KerasTensor, channels: int, side: int, name: str) -> keras.KerasTensor:
    """Convolution without bias, then BatchNorm."""
    x = layers.Conv2D(channels, side, padding="same", use_bias=False, name=name)(x)
    return layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name=f"{name}_bn")(x)
