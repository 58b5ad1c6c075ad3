"""A head on an embedding and on the encoder's own scores: the last layer reads both."""

from typing import Any

import keras
from keras import layers

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.models.heads.on_embedding import build_encoder_head
from birdnet_fs.schema.model import WITH_OWN_SCORES


@keras.saving.register_keras_serializable("birdnet_fs")
class Columns(layers.Layer):
    """Consecutive columns: [batch, width] -> [batch, stop - start].

    Args:
        start: Number of the first column.
        stop: Number behind the last.
        **settings: Arguments of `keras.layers.Layer` (name, dtype).
    """

    def __init__(self, start: int, stop: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.start, self.stop = start, stop

    def call(self, x: Any) -> Any:
        """[batch, width] -> [batch, stop - start]."""
        return x[:, self.start : self.stop]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, stop - start)."""
        return (input_shape[0], self.stop - self.start)

    def get_config(self) -> dict[str, Any]:
        """Arguments to create the layer again."""
        return {**super().get_config(), "start": self.start, "stop": self.stop}


def build_head_with_own_scores(
    model: schema.Model, input_shape: tuple[int, ...], n_classes: int, n_own: int
) -> keras.Model:
    """Build a head on embeddings, with random weights, whose last layer also reads own scores of the encoder.

    Args:
        model: Settings as of `build_encoder_head`; with own scores its head is one of WITH_OWN_SCORES.
        input_shape: (width,) of embedding and own scores together, the own scores last; or, without own scores,
            (n_tokens, width).
        n_classes: Width of the logits, 1 or more.
        n_own: Number of own scores, 0 or more.

    Returns:
        A Functional Keras model: features [batch, *input_shape] -> logits float32 [batch, n_classes].

    Raises:
        UserError: The head cannot read own scores.
    """
    if not n_own:
        return build_encoder_head(model, input_shape, n_classes)
    if model.head not in WITH_OWN_SCORES:
        raise UserError(
            f"model.encoder_head.own_scores needs model.head={' or '.join(WITH_OWN_SCORES)}; set it to none. "
            f"Received: {model.head}"
        )
    width = input_shape[-1] - n_own
    head = build_encoder_head(model, (width,), n_classes)
    features = keras.Input((width + n_own,), name="features")
    x = Columns(0, width, name="encoder_embedding")(features)
    own = Columns(width, width + n_own, name="own_scores")(features)
    for layer in head.layers[1:-1]:  # behind the input, in front of the logits
        x = layer.from_config(layer.get_config())(x)  # a layer of two networks would have two outputs
    x = layers.Concatenate(name="with_own_scores")([x, own])
    logits = layers.Dense(n_classes, dtype="float32", name="logits")(x)
    return keras.Model(features, logits, name=f"{model.head}_with_own_scores")
