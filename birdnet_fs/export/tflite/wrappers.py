"""What stands before and behind the network in a TFLite file, as Keras models without weights: always in float32."""

from typing import TYPE_CHECKING

from birdnet_fs import schema

if TYPE_CHECKING:
    import keras

SMALLEST_POSITIVE = 1e-30  # share of the other classes relative to the best, in log-odds, which end at 69 therefore


def front_end_model(spec: schema.FrontEnd) -> "keras.Model":
    """The front-end as a network: waveform [batch, n_samples] -> features [batch, n_frames, n_mels, n_channels]."""
    import keras

    from birdnet_fs.frontend.in_keras import FrontEndLayer

    waveform = keras.Input((spec.n_samples,), name="waveform")
    features = FrontEndLayer(spec, transform="dft", name="front_end")(waveform)
    features = keras.ops.reshape(features, (-1, *spec.shape, 1))  # a layer would ask for the batch in the graph
    if spec.n_channels > 1:
        features = keras.layers.Concatenate(name="channel_copies")([features] * spec.n_channels)
    return keras.Model(waveform, {"features": features}, name="front_end_model")


def transpose_features(shape: tuple[int, int, int]) -> "keras.Model":
    """Features with their bands first, of a shape (n_mels, n_frames, n_channels), as the network reads them."""
    import keras

    given = keras.Input(shape, name="features")
    turned = keras.layers.Permute((2, 1, 3), name="time_first")(given)
    return keras.Model(given, {"time_first": turned}, name="turn")


def output_model(answers: str, activation: str, n_classes: int) -> "keras.Model":
    """Logits [batch, n_classes] -> `predictions` of the same shape.

    Args:
        answers: As in `Form`, "probabilities", or "log_odds" of a softmax.
        activation: What makes the probabilities, "sigmoid" or "softmax"; log-odds do not ask.
        n_classes: 1 or more.
    """
    import keras

    logits = keras.Input((n_classes,), name="logits")
    ways = {"log_odds": _log_odds, "probabilities": keras.layers.Activation(activation)}
    return keras.Model(logits, {"predictions": ways[answers](logits)}, name=answers)


def _log_odds(logits: "keras.KerasTensor") -> "keras.KerasTensor":
    """log p / (1 - p) of the softmax's p. What the others have is added up without the class itself.

    1 - p would keep no digit of it where p is nearly 1, and neither would a sum of all from which the best is taken.
    """
    from keras import ops

    below = logits - ops.max(logits, axis=-1, keepdims=True)
    powers = ops.exp(below)
    best = ops.cast(below >= 0, "float32")  # more than one where they are equal
    of_best = ops.sum(powers * (1 - best), -1, keepdims=True) + (ops.sum(best, -1, keepdims=True) - 1)
    of_others = ops.sum(powers, axis=-1, keepdims=True) - powers  # 1 or more: the best is among them
    rest = best * of_best + (1 - best) * of_others
    return below - ops.log(ops.maximum(rest, SMALLEST_POSITIVE))
