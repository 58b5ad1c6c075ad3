"""EfficientNet B0: inverted residual blocks with squeeze-and-excitation.

Source: Tan, Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML, table 1,
https://arxiv.org/abs/1905.11946; as in keras.applications, with its standardization of the input (three numbers for
one channel). Blocks, SiLU, BatchNorm and stochastic depth are those of efficientnet_v2.py. BatchNorm's momentum is
.9, because with the published .99 the moving statistics need thousands of steps to converge. `b0_torch` is
torchvision's B0: no standardization of the input, BatchNorm epsilon 1e-5, strided convolutions padded on both sides.
"""

from dataclasses import replace
from typing import Any

import keras
from keras import layers, ops

from birdnet_fs.models.blocks import Backbone
from birdnet_fs.models.efficientnet_v2 import Size, Stage, trunk

SOURCE = "Tan & Le 2019, https://arxiv.org/abs/1905.11946"
MIN_SHAPE = (32, 32)  # (n_frames, n_mels): five halvings
SMALLEST_DEVIATION = 1e-7  # Keras' epsilon

# expand, channels, n_blocks, stride, kernel
_TABLE = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_B0 = Size(tuple(Stage(False, *row) for row in _TABLE), stem=32)
VARIANTS = {"b0": _B0, "b0_torch": replace(_B0, as_torch=True, epsilon=1e-5)}


def backbone(variant: str, features: keras.KerasTensor) -> Backbone:
    """Build the backbone of a variant (a key of VARIANTS) on features [batch, n_frames, n_mels, n_channels]."""
    size = VARIANTS[variant]
    return trunk(features if size.as_torch else Standardize(name="input_statistics")(features), size)


@keras.saving.register_keras_serializable("birdnet_fs")
class Standardize(layers.Layer):
    """Subtract a mean from each channel and divide by a standard deviation.

    The weights are constants of the published network, 0 and 1 in a new one, and are not trained: `mean` and
    `variance` [n_channels], and `count` (number of values they were computed from).
    """

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the constants."""
        self.mean = self.add_weight(name="mean", shape=(input_shape[-1],), initializer="zeros", trainable=False)
        self.variance = self.add_weight(name="variance", shape=(input_shape[-1],), initializer="ones", trainable=False)
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        """[..., n_channels] -> [..., n_channels]."""
        return (x - self.mean) / ops.maximum(ops.sqrt(self.variance), SMALLEST_DEVIATION)

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """The shape of the input."""
        return input_shape
