"""Heads on the embeddings of a foreign encoder: a small network that reads embeddings instead of log-mel features.

Every network has a layer "embedding", which transforms the embeddings by numbers from the training windows, and a last
layer "logits". Embeddings of an encoder that ends in a ReLU have a skewed distribution in each dimension; their square
root, minus its mean over the training windows, compares better by dot products and cosines (the "power
normalization" of Perronnin et al. 2010, "Improving the Fisher Kernel", https://doi.org/10.1007/978-3-642-15561-1_11).
"""

from typing import Any

import keras
from keras import layers, ops

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.models.heads.cosine import CosineLogits
from birdnet_fs.models.heads.on_tokens import ProbeLogits, TokenAttention
from birdnet_fs.models.heads.prototypes import PrototypeLogits

N_AXES = {1: "[batch, width]", 2: "[batch, n_tokens, width]"}


@keras.saving.register_keras_serializable("birdnet_fs")
class EmbeddingTransform(layers.Layer):
    """`(f(x) - center) * scale`, where f is the square root or nothing.

    Args:
        root: Whether f is the square root; values below 0 count as 0.
        **settings: Arguments of `keras.layers.Layer` (name, dtype).

    Weights, not trained by gradients: `center` [width], zeros until they are set, and `scale` [width], ones.
    """

    def __init__(self, root: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self.root = root

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights [width]."""
        shape = (input_shape[-1],)
        self.center = self.add_weight(name="center", shape=shape, initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones", trainable=False)

    def call(self, x: Any) -> Any:
        """[..., width] -> [..., width]."""
        x = ops.cast(x, self.compute_dtype)
        x = ops.sqrt(ops.maximum(x, 0.0)) if self.root else x
        return (x - self.center) * self.scale

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Arguments to create the layer again."""
        return {**super().get_config(), "root": self.root}


def build_encoder_head(model: schema.Model, input_shape: tuple[int, ...], n_classes: int) -> keras.Model:
    """Build a head on embeddings, with random weights.

    Heads other than "attentive" and "probe" read the mean of tokens.

    Args:
        model: Uses `head`, `dropout`, `logit_scale` (0 = 1), `distance`, `unknown` and `encoder_head` (`transform`:
            "auto" counts as "none"; `hidden`, `n_prototypes`, `n_queries`).
        input_shape: (width,) of embeddings, or (n_tokens, width).
        n_classes: Width of the logits, 1 or more.

    Returns:
        A Functional Keras model: features [batch, *input_shape] -> logits float32 [batch, n_classes]. Its layer
        "embedding" gives the transformed embeddings float32 [batch, width]; with the head "attentive" the tokens as
        pooled by each query, float32 [batch, n_queries * width].

    Raises:
        UserError: The head does not exist here, the shape is no such shape, or the head needs tokens.
    """
    shape = tuple(int(n) for n in input_shape)
    if len(shape) not in N_AXES or min(shape) < 1:
        raise UserError(f"Features of an encoder must be {' or '.join(N_AXES.values())}. Received: {list(shape)}")
    if n_classes < 1:
        raise UserError(f"n_classes must be 1 or more; are there labels in the training data? Received: {n_classes}")
    if model.head not in HEADS:
        raise UserError(f"model.head on an encoder must be one of {', '.join(HEADS)}. Received: {model.head}")
    features = keras.Input(shape, name="features")
    return keras.Model(features, HEADS[model.head](features, model, n_classes), name=f"{model.head}_on_embedding")


def _transformed(features: keras.KerasTensor, model: schema.Model) -> keras.KerasTensor:
    """Layer "embedding" on embeddings, or on the mean of the tokens."""
    if len(features.shape) == 3:
        features = layers.GlobalAveragePooling1D(name="mean_over_tokens")(features)
    return EmbeddingTransform(model.encoder_head.transform == "sqrt", dtype="float32", name="embedding")(features)


def _linear(features: keras.KerasTensor, model: schema.Model, n_classes: int) -> keras.KerasTensor:
    """One dense layer."""
    return layers.Dense(n_classes, dtype="float32", name="logits")(_transformed(features, model))


def _prototypes(features: keras.KerasTensor, model: schema.Model, n_classes: int) -> keras.KerasTensor:
    """Distances to one prototype of each class, and a bias of each class."""
    x = _transformed(features, model)
    scale = model.logit_scale or 1.0
    logits = PrototypeLogits(n_classes, model.distance, scale, model.unknown, bias=True, dtype="float32", name="logits")
    return logits(x)


def _cosine(features: keras.KerasTensor, model: schema.Model, n_classes: int) -> keras.KerasTensor:
    """Cosines to one direction of each class, and a bias of each class."""
    x = _transformed(features, model)
    return CosineLogits(n_classes, model.logit_scale or 1.0, bias=True, dtype="float32", name="logits")(x)


def _mlp(features: keras.KerasTensor, model: schema.Model, n_classes: int) -> keras.KerasTensor:
    """One hidden layer, with dropout behind it."""
    x = layers.Dense(model.encoder_head.hidden, activation="relu", name="hidden")(_transformed(features, model))
    x = layers.Dropout(model.dropout, name="dropout")(x)
    return layers.Dense(n_classes, dtype="float32", name="logits")(x)


def _probe_logits(features: keras.KerasTensor, model: schema.Model, n_classes: int) -> keras.KerasTensor:
    """Several prototypes of each class; of tokens, their mean is one more token."""
    if len(features.shape) == 3:
        tokens = _tokens(features, model)
        mean = layers.GlobalAveragePooling1D(name="embedding")(tokens)
        mean = layers.Reshape((1, mean.shape[1]), name="mean_token")(mean)
        x = layers.Concatenate(axis=1, name="tokens_and_mean")([tokens, mean])
    else:
        x = _transformed(features, model)
    scale, n_prototypes = model.logit_scale or 1.0, model.encoder_head.n_prototypes
    return ProbeLogits(n_classes, n_prototypes, scale, dtype="float32", name="logits")(x)


def _attentive(features: keras.KerasTensor, model: schema.Model, n_classes: int) -> keras.KerasTensor:
    """Tokens pooled by learned queries, and one dense layer."""
    if len(features.shape) != 3:
        raise UserError(
            "model.head=attentive needs an encoder that gives tokens, [batch, n_tokens, width]; this one gives "
            f"{N_AXES[1]}. Set model.head=auto, linear, or probe."
        )
    pooling = TokenAttention(model.encoder_head.n_queries, dtype="float32", name="embedding")
    x = layers.Dropout(model.dropout, name="dropout")(pooling(_tokens(features, model)))
    return layers.Dense(n_classes, dtype="float32", name="logits")(x)


def _tokens(features: keras.KerasTensor, model: schema.Model) -> keras.KerasTensor:
    """Layer "tokens": the transform of each token."""
    return EmbeddingTransform(model.encoder_head.transform == "sqrt", dtype="float32", name="tokens")(features)


# head -> function (features, settings, n_classes) that gives the logits
HEADS = {
    "linear": _linear,
    "cosine": _cosine,
    "prototypes": _prototypes,
    "mlp": _mlp,
    "probe": _probe_logits,
    "attentive": _attentive,
}
