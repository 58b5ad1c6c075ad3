"""EfficientNet B0, the network of the BirdCLEF 2025 plan: inverted residual blocks with squeeze-and-excitation.

Source: Tan, Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML, table 1,
https://arxiv.org/abs/1905.11946; as in keras.applications, with its standardization of the input (three numbers for
one channel). Blocks, SiLU, BatchNorm and stochastic depth are those of efficientnet_v2.py; BatchNorm's momentum is .9,
because the published .99 follows the data for thousands of steps only.
"""

from typing import Any

import keras
from keras import layers, ops

from birdnet_fs.models.efficientnet_v2 import Size, Stage, trunk
from birdnet_fs.models.blocks import Backbone

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
VARIANTS = {"b0": Size(tuple(Stage(False, *row) for row in _TABLE), stem=32)}


def backbone(variant: str, features: keras.KerasTensor) -> Backbone:
    """The network of one row of VARIANTS on features [batch, n_frames, n_mels, n_channels]."""
    return trunk(Standardize(name="input_statistics")(features), VARIANTS[variant])


@keras.saving.register_keras_serializable("birdnet_fs")
class Standardize(layers.Layer):
    """Each channel less its mean, over its deviation: constants of a published network, 0 and 1 in a fresh one.

    Weights, none trained: `mean` and `variance` [n_channels], `count` (how many values they were taken of).
    """

    def build(self, input_shape: tuple[Any, ...]) -> None:
        self.mean = self.add_weight(name="mean", shape=(input_shape[-1],), initializer="zeros", trainable=False)
        self.variance = self.add_weight(name="variance", shape=(input_shape[-1],), initializer="ones", trainable=False)
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        return (x - self.mean) / ops.maximum(ops.sqrt(self.variance), SMALLEST_DEVIATION)

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return input_shape
