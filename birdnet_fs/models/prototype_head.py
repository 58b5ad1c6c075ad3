"""The head of few-shot networks: a class is a point among the embeddings, its logit falls with the distance to it.

Source: Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175
(squared Euclidean distance to the mean of a class' support); Sung et al. 2018, "Learning to Compare",
https://arxiv.org/abs/1711.06025 (a distance that is learned; its layers here are those of V2 in
https://github.com/nnayz/uhh_project_dsai); Wang et al. 2019, "SimpleShot", https://arxiv.org/abs/1911.04623 (cosine
after a center is taken off). Prototypes, center and what stands for "none of them" are weights of the network, so a
run that has learned species by enrollment is scored, evaluated and exported like any other.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.in_keras import full_precision

DISTANCES = ("euclidean", "cosine", "learned")
DROPOUT = 0.1  # inside the learned distance
SMALLEST_SQUARE = 1e-12  # below the squared length of any embedding that means something


def distance_network(width: int) -> keras.Model:
    """The learned distance of V2: query and prototype side by side -> 512 -> 256 -> 1, with nothing to bound it.

    Args:
        width: Of an embedding.

    Returns:
        A Functional Keras model: pairs [n_pairs, 2 * width], the query first -> distance float32 [n_pairs, 1]; the
        logit of a class is minus the distance to its prototype.
    """
    pairs = keras.Input((2 * width,), name="pairs")
    x = pairs
    for i, units in enumerate((512, 256), 1):
        x = layers.Dense(units, activation="relu", name=f"dense{i}")(x)
        x = layers.Dropout(DROPOUT, name=f"dropout{i}")(x)
    return keras.Model(pairs, layers.Dense(1, dtype="float32", name="distance")(x), name="learnt_distance")


def dense_layers(network: keras.Model) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Kernel [n_in, n_out] and bias [n_out] of each layer of a `distance_network`; between two of them is a ReLU."""
    found = [layer for layer in network.layers if isinstance(layer, layers.Dense)]
    return tuple((ops.convert_to_numpy(x.kernel), ops.convert_to_numpy(x.bias)) for x in found)


@keras.saving.register_keras_serializable("birdnet_fs")
class PrototypeLogits(layers.Layer):
    """Logits by the distance of an embedding to the prototype of each class.

    Args:
        n_classes: Width of the logits.
        distance: "euclidean" (-scale x squared distance), "cosine" (scale x cosine) or "learned" (-scale x what
            `distance_network` says).
        scale: Above 0; how fast a logit falls.
        unknown: The last class is "none of the others": its logit is one number, whatever is heard.
        **settings: Those of every layer (name, dtype).

    Weights: `prototypes` [n_known, width]; not trained by gradients: `center` [width], taken off embeddings and
    prototypes before they are compared (zeros until enrollment sets it), and, with `unknown`, `unknown_logit` [1].
    Input: [batch, width]. Output: [batch, n_classes].
    """

    def __init__(self, n_classes: int, distance: str, scale: float, unknown: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        if distance not in DISTANCES:
            raise UserError(f"distance must be one of {', '.join(DISTANCES)}. Received: {distance!r}")
        self.n_classes, self.distance, self.scale, self.unknown = n_classes, distance, scale, unknown

    def build(self, input_shape: tuple[Any, ...]) -> None:
        width = input_shape[-1]
        self.prototypes = self.add_weight(name="prototypes", shape=(self.n_classes - self.unknown, width))
        self.center = self.add_weight(name="centre", shape=(width,), initializer="zeros", trainable=False)
        if self.unknown:
            self.unknown_logit = self.add_weight(name="unknown_logit", shape=(1,), initializer="zeros", trainable=False)
        if self.distance == "learned":
            self.learned = distance_network(width)

    def call(self, x: Any, training: bool = False) -> Any:
        logits = self.compare(x, self.prototypes, training=training)
        if self.unknown:
            logits = ops.concatenate([logits, ops.zeros_like(logits[:, :1]) + self.unknown_logit], axis=1)
        return logits

    def compare(self, x: Any, prototypes: Any, training: bool = False) -> Any:
        """Logits of embeddings [n, width] for any prototypes [n_classes, width]: [n, n_classes]."""
        x = ops.cast(x, self.compute_dtype)
        prototypes = ops.cast(prototypes, self.compute_dtype)
        if self.distance != "learned":  # moves no distance, and float32 keeps more of it
            x, prototypes = x - self.center, prototypes - self.center
        if self.distance == "cosine":
            with full_precision(x):
                return self.scale * ops.matmul(_unit(x), ops.transpose(_unit(prototypes)))
        if self.distance == "euclidean":
            with full_precision(x):  # a small difference of large products
                near = 2.0 * ops.matmul(x, ops.transpose(prototypes)) - ops.sum(ops.square(prototypes), axis=1)
            return self.scale * (near - ops.sum(ops.square(x), axis=1, keepdims=True))
        n_classes, width = prototypes.shape
        queries = ops.repeat(x[:, None, :], n_classes, axis=1)
        pairs = ops.concatenate([queries, ops.zeros_like(queries) + prototypes], axis=2)
        distances = self.learned(ops.reshape(pairs, (-1, 2 * width)), training=training)
        return -self.scale * ops.reshape(distances, (-1, n_classes))

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("n_classes", "distance", "scale", "unknown")}
        return {**super().get_config(), **own}


def _unit(x: Any) -> Any:
    return x * ops.rsqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + SMALLEST_SQUARE)
