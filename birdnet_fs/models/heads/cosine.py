"""Head "cosine": scaled cosines between the embedding and one weight vector per class, without bias.

Source: Deng et al. 2019, "ArcFace", https://arxiv.org/abs/1801.07698. It is trained with ArcFace, Circle or plain
cross-entropy loss (training/losses.py); the margins of the first two are part of the loss, which has the labels.
"""

from typing import Any

import keras
from keras import layers, ops

from birdnet_fs.models.blocks import Backbone

SMALLEST_SQUARE = 1e-12  # far below the squared length of a useful embedding; a zero vector gives zeros


def cosine_head(backbone: Backbone, n_classes: int, dropout: float, *, scale: float = 30.0) -> keras.KerasTensor:
    """Dropout and scaled cosines on the embedding.

    Args:
        backbone: Output of a family's `backbone`; only its embedding is used.
        n_classes: Width of the logits, 1 or more.
        dropout: Dropout rate in front of the cosines, in [0, 1).
        scale: Factor of the cosines, above 0. Default: 30.

    Returns:
        Logits float32 [batch, n_classes], from -scale to scale.
    """
    x = layers.Dropout(dropout, name="dropout")(backbone.embedding)
    return CosineLogits(n_classes, scale, dtype="float32", name="logits")(x)


@keras.saving.register_keras_serializable("birdnet_fs")
class CosineLogits(layers.Layer):
    """`scale` times the cosine between the input and the column of each class in the kernel.

    Args:
        n_classes: Columns of the kernel [width, n_classes].
        scale: Factor of the cosines, above 0.
        bias: Whether each logit has a bias [n_classes], zeros at first. Default: False.
        **settings: Arguments of `keras.layers.Layer` (name, dtype).
    """

    def __init__(self, n_classes: int, scale: float, bias: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.n_classes, self.scale, self.has_bias = n_classes, scale, bias

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the kernel [width, n_classes] and the bias."""
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.n_classes))
        if self.has_bias:
            self.bias = self.add_weight(name="bias", shape=(self.n_classes,), initializer="zeros")

    def call(self, x: Any) -> Any:
        """[batch, width] -> [batch, n_classes], from -scale to scale before the bias; a vector of zeros gives zeros."""
        # squares of float16 overflow, and under autocast the embedding may be float16
        x = ops.cast(x, self.compute_dtype)
        logits = self.scale * ops.matmul(unit_length(x, -1), unit_length(self.kernel, 0))
        return logits + self.bias if self.has_bias else logits

    def get_config(self) -> dict[str, Any]:
        """Arguments to create the layer again."""
        own = {"n_classes": self.n_classes, "scale": self.scale, "bias": self.has_bias}
        return {**super().get_config(), **own}


def unit_length(x: Any, axis: int = -1) -> Any:
    """Vectors of any shape along `axis`, divided by their Euclidean length; zeros stay zeros."""
    return x * ops.rsqrt(ops.sum(ops.square(x), axis=axis, keepdims=True) + SMALLEST_SQUARE)
