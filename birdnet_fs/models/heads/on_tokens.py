"""Layers for heads on tokens: pooling by learned queries, and several prototypes of a class.

Attention pooling: Bardes et al. 2024, "Revisiting Feature Prediction for Learning Visual Representations from Video",
https://arxiv.org/abs/2404.08471 (attentive probing), in the form of Psomas et al. 2025, "Attention, Please! Revisiting
Attentive Probing Through the Lens of Efficiency", https://arxiv.org/abs/2506.10178: queries are compared with the
tokens themselves, without projections, which few clips could not train.

Prototype probe: Heinrich et al. 2024, "AudioProtoPNet", https://arxiv.org/abs/2404.10420, and Rauch et al. 2025, "Can
Masked Autoencoders Also Listen to Birds?", https://arxiv.org/abs/2504.12880 (prototypical probing): a class has several
prototypes, each of which is compared by cosine with its most similar token.
"""

from typing import Any

import keras
from keras import layers, ops

from birdnet_fs.models.heads.cosine import unit_length

SHARPNESS = 16.0  # of the smooth maximum over the prototypes of a class, whose cosines lie in -1..1
# Transformed tokens have lengths around 1, and the sum of their absolute values grows with the square root of the
# width: with this factor a step of Adam changes the attention equally fast at every width.
STEP = 32.0


@keras.saving.register_keras_serializable("birdnet_fs")
class TokenAttention(layers.Layer):
    """Mean of the tokens, weighted by their similarity to each of several learned queries.

    Args:
        n_queries: Number of queries, 1 or more.
        **settings: Arguments of `keras.layers.Layer` (name, dtype).

    Weights: `queries` [width, n_queries].
    """

    def __init__(self, n_queries: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.n_queries = n_queries

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the queries."""
        self.queries = self.add_weight(name="queries", shape=(input_shape[-1], self.n_queries))

    def call(self, tokens: Any) -> Any:
        """[batch, n_tokens, width] -> [batch, n_queries * width]."""
        width = tokens.shape[-1]
        attention = ops.softmax(ops.matmul(tokens, self.queries) * (STEP / width**0.5), axis=1)
        pooled = ops.matmul(ops.transpose(attention, (0, 2, 1)), tokens)
        return ops.reshape(pooled, (-1, self.n_queries * width))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, n_queries * width)."""
        return input_shape[0], self.n_queries * (input_shape[-1] or 0)

    def get_config(self) -> dict[str, Any]:
        """Arguments to create the layer again."""
        return {**super().get_config(), "n_queries": self.n_queries}


@keras.saving.register_keras_serializable("birdnet_fs")
class ProbeLogits(layers.Layer):
    """`scale` times the similarity of a class plus its bias.

    The similarity of a class is the smooth maximum (a logarithm of the mean of exponentials) of the cosines of its
    prototypes, each with its most similar token.

    Args:
        n_classes: Width of the logits.
        n_prototypes: Prototypes of each class.
        scale: Factor of the similarities, above 0.
        **settings: Arguments of `keras.layers.Layer` (name, dtype).

    Weights: `prototypes` [width, n_classes * n_prototypes], those of a class in consecutive columns; `bias`
    [n_classes].
    """

    def __init__(self, n_classes: int, n_prototypes: int, scale: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.n_classes, self.n_prototypes, self.scale = n_classes, n_prototypes, scale

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the prototypes and the bias."""
        shape = (input_shape[-1], self.n_classes * self.n_prototypes)
        self.prototypes = self.add_weight(name="prototypes", shape=shape)
        self.bias = self.add_weight(name="bias", shape=(self.n_classes,), initializer="zeros")

    def call(self, x: Any) -> Any:
        """[batch, width], or tokens [batch, n_tokens, width], -> [batch, n_classes]."""
        cosines = ops.matmul(unit_length(x, -1), unit_length(self.prototypes, 0))
        if len(x.shape) == 3:
            cosines = ops.max(cosines, axis=1)
        of_classes = ops.reshape(cosines, (-1, self.n_classes, self.n_prototypes))
        raised = ops.exp(SHARPNESS * (of_classes - 1.0))
        similarity = ops.log(ops.mean(raised, axis=2)) / SHARPNESS + 1.0
        return self.scale * similarity + self.bias

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, n_classes)."""
        return input_shape[0], self.n_classes

    def get_config(self) -> dict[str, Any]:
        """Arguments to create the layer again."""
        own = {name: getattr(self, name) for name in ("n_classes", "n_prototypes", "scale")}
        return {**super().get_config(), **own}
