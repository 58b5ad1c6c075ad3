"""Small convolutional networks for training from scratch, in the manner of the PANNs (Cnn6, Cnn10).

Source: Kong, Cao, Iqbal, Wang, Wang, Plumbley 2020, "PANNs: Large-Scale Pretrained Audio Neural Networks for
Audio Pattern Recognition", IEEE/ACM TASLP 28, https://arxiv.org/abs/1912.10211. From there: blocks of two 3x3
convolutions with BatchNorm and ReLU, 2x2 average pooling, BatchNorm per mel band at the input, mean over
frequency, then max plus mean over time, and a fully connected embedding. Ours: the widths below, and a second
input channel with each band's mean over the segment removed (stationary background: wind, rain, recorder hum).
"""

from dataclasses import dataclass

import keras
from keras import layers

SOURCE = "Kong et al. 2020, https://arxiv.org/abs/1912.10211 (PANNs), narrower"
MIN_SHAPE = (16, 16)  # (n_frames, n_mels): one cell is left after four halvings
EPSILON, MOMENTUM = 1e-5, 0.9  # torch's BatchNorm defaults, as in the paper's code (Keras' momentum is 1 - torch's)


@dataclass(frozen=True)
class Size:
    """Widths of one variant."""

    channels: tuple[int, ...]  # of each block
    n_convs: tuple[int, ...]  # 3x3 convolutions in each block
    embedding: int


VARIANTS = {
    "small": Size(channels=(24, 48, 96, 192), n_convs=(1, 2, 2, 2), embedding=256),
    "tiny": Size(channels=(16, 32, 48, 64), n_convs=(1, 1, 1, 1), embedding=128),
}


def build(variant: str, *, input_shape: tuple[int, int, int], n_classes: int, dropout: float) -> keras.Model:
    """The network of one row of VARIANTS; arguments as `models.build`, already checked.

    Raw decibels are fine as features: the first layers bring every band to mean 0 and variance 1.
    """
    size = VARIANTS[variant]
    n_frames, n_mels, _ = input_shape
    inputs = keras.Input(input_shape, name="features")
    band_mean = layers.AveragePooling2D((n_frames, 1), name="band_mean")(inputs)
    x = layers.Concatenate(name="bands")([inputs, layers.Subtract(name="less_mean")([inputs, band_mean])])
    x = layers.Reshape((n_frames, -1), name="bn0_flat")(x)  # one statistic for each band of each channel
    x = layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name="bn0")(x)
    x = layers.Reshape((n_frames, n_mels, -1), name="bn0_bands")(x)
    for block, (channels, n_convs) in enumerate(zip(size.channels, size.n_convs, strict=True), 1):
        for conv in range(1, n_convs + 1):
            name = f"block{block}_conv{conv}"
            x = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=name)(x)
            x = layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name=f"{name}_bn")(x)
            x = layers.ReLU(name=f"{name}_relu")(x)
        x = layers.AveragePooling2D(2, name=f"block{block}_pool")(x)
    x = layers.AveragePooling2D((1, x.shape[2]), name="mean_over_mels")(x)
    x = layers.Add(name="pool")(
        [layers.GlobalMaxPooling2D(name="max_over_time")(x), layers.GlobalAveragePooling2D(name="mean_over_time")(x)]
    )
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(size.embedding, activation="relu", name="embedding")(x)
    logits = layers.Dense(n_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=f"cnn_{variant}")
