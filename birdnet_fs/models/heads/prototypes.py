"""Head "prototypes" of few-shot networks: a class is a point in the embedding space, its logit falls with distance.

Source: Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175
(squared Euclidean distance to the mean of a class' support); Sung et al. 2018, "Learning to Compare",
https://arxiv.org/abs/1711.06025 (a learned distance; its layers here are those of V2 in
https://github.com/nnayz/uhh_project_dsai); Wang et al. 2019, "SimpleShot", https://arxiv.org/abs/1911.04623 (cosine
after subtraction of a center). Prototypes, center and the logit of the class "none of the others" are weights of the
network, so a run with enrolled species is scored, evaluated and exported like any other.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.in_keras import full_precision
from birdnet_fs.models.blocks import Backbone
from birdnet_fs.models.heads.cosine import unit_length

DISTANCES = ("euclidean", "cosine", "learned")
DROPOUT = 0.1  # rate inside the learned distance


def prototype_head(
    backbone: Backbone, n_classes: int, dropout: float, *, scale: float, distance: str, unknown: bool
) -> keras.KerasTensor:
    """Dropout and distances between the embedding and the prototype of each class.

    Args:
        backbone: Output of a family's `backbone`; only its embedding is used.
        n_classes: Width of the logits, 1 or more.
        dropout: Dropout rate in front of the distances, in [0, 1).
        scale: Factor of the distance, above 0.
        distance: "euclidean" (-scale x squared distance), "cosine" (scale x cosine) or "learned" (-scale x output of
            `distance_network`).
        unknown: Whether the last class is "none of the others", whose logit does not depend on the input.

    Returns:
        Logits float32 [batch, n_classes].
    """
    x = layers.Dropout(dropout, name="dropout")(backbone.embedding)
    return PrototypeLogits(n_classes, distance, scale, unknown, dtype="float32", name="logits")(x)


def distance_network(width: int) -> keras.Model:
    """The learned distance of V2: query and prototype concatenated -> 512 -> 256 -> 1, unbounded.

    Args:
        width: Width of an embedding.

    Returns:
        A Functional Keras model: pairs [n_pairs, 2 * width], the query first -> distance float32 [n_pairs, 1].
    """
    pairs = keras.Input((2 * width,), name="pairs")
    x = pairs
    for i, units in enumerate((512, 256), 1):
        x = layers.Dense(units, activation="relu", name=f"dense{i}")(x)
        x = layers.Dropout(DROPOUT, name=f"dropout{i}")(x)
    return keras.Model(pairs, layers.Dense(1, dtype="float32", name="distance")(x), name="learnt_distance")


def dense_layers(network: keras.Model) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Kernel [n_in, n_out] and bias [n_out] of each dense layer of a `distance_network`, with a ReLU between layers."""
    found = [layer for layer in network.layers if isinstance(layer, layers.Dense)]
    return tuple((ops.convert_to_numpy(x.kernel), ops.convert_to_numpy(x.bias)) for x in found)


@keras.saving.register_keras_serializable("birdnet_fs")
class PrototypeLogits(layers.Layer):
    """Logits by the distance of an embedding to the prototype of each class.

    Args:
        n_classes: Width of the logits.
        distance: "euclidean" (-scale x squared distance), "cosine" (scale x cosine) or "learned" (-scale x output of
            `distance_network`).
        scale: Factor of the distance, above 0.
        unknown: Whether the last class is "none of the others", whose logit does not depend on the input.
        bias: Whether the logit of each of the other classes has a bias. Default: False.
        **settings: Arguments of `keras.layers.Layer` (name, dtype).

    Weights: `prototypes` [n_known, width] and, with `bias`, `bias` [n_known], zeros at first; not trained by gradients:
    `center` [width], subtracted from embeddings and prototypes before they are compared (zeros until enrollment sets
    it), and, with `unknown`, `unknown_logit` [1].

    Raises:
        UserError: `distance` is none of these.
    """

    def __init__(
        self,
        n_classes: int,
        distance: str,
        scale: float,
        unknown: bool = False,
        bias: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if distance not in DISTANCES:
            raise UserError(f"distance must be one of {', '.join(DISTANCES)}. Received: {distance!r}")
        self.n_classes, self.distance, self.scale = n_classes, distance, scale
        self.unknown, self.has_bias = unknown, bias

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the weights; the variable of the center is called "centre" in files."""
        width = input_shape[-1]
        self.prototypes = self.add_weight(name="prototypes", shape=(self.n_classes - self.unknown, width))
        self.center = self.add_weight(name="centre", shape=(width,), initializer="zeros", trainable=False)
        if self.has_bias:
            self.bias = self.add_weight(name="bias", shape=(self.n_classes - self.unknown,), initializer="zeros")
        if self.unknown:
            self.unknown_logit = self.add_weight(name="unknown_logit", shape=(1,), initializer="zeros", trainable=False)
        if self.distance == "learned":
            self.learned = distance_network(width)

    def call(self, x: Any, training: bool = False) -> Any:
        """[batch, width] -> [batch, n_classes]."""
        logits = self.compare(x, self.prototypes, training=training)
        if self.has_bias:
            logits = logits + self.bias
        if self.unknown:
            logits = ops.concatenate([logits, ops.zeros_like(logits[:, :1]) + self.unknown_logit], axis=1)
        return logits

    def compare(self, x: Any, prototypes: Any, training: bool = False) -> Any:
        """Logits of embeddings for given prototypes.

        Args:
            x: Embeddings [n, width].
            prototypes: One row per class [n_classes, width].
            training: Whether the learned distance applies its dropout.

        Returns:
            [n, n_classes].
        """
        x = ops.cast(x, self.compute_dtype)
        prototypes = ops.cast(prototypes, self.compute_dtype)
        if self.distance != "learned":  # a shift changes no distance, and float32 loses less near 0
            x, prototypes = x - self.center, prototypes - self.center
        if self.distance == "cosine":
            with full_precision(x):
                return self.scale * ops.matmul(unit_length(x), ops.transpose(unit_length(prototypes)))
        if self.distance == "euclidean":
            with full_precision(x):  # a small difference of large products
                similarity = 2.0 * ops.matmul(x, ops.transpose(prototypes)) - ops.sum(ops.square(prototypes), axis=1)
            return self.scale * (similarity - ops.sum(ops.square(x), axis=1, keepdims=True))
        n_classes, width = prototypes.shape
        queries = ops.repeat(x[:, None, :], n_classes, axis=1)
        pairs = ops.concatenate([queries, ops.zeros_like(queries) + prototypes], axis=2)
        distances = self.learned(ops.reshape(pairs, (-1, 2 * width)), training=training)
        return -self.scale * ops.reshape(distances, (-1, n_classes))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, n_classes) of (batch, width)."""
        return (input_shape[0], self.n_classes)

    def get_config(self) -> dict[str, Any]:
        """Arguments to create the layer again."""
        own = {name: getattr(self, name) for name in ("n_classes", "distance", "scale", "unknown")}
        return {**super().get_config(), **own, "bias": self.has_bias}
