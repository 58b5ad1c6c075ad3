"""Keras models without weights that are joined before and behind the network in a TFLite file, always in float32."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from birdnet_fs import schema
from birdnet_fs.encoders.open import PEAK

if TYPE_CHECKING:
    import keras

# lower bound of the other classes' share in log-odds, which are limited to 69 by it, and of the peak of a window
SMALLEST_POSITIVE = 1e-30


def front_end_model(spec: schema.FrontEnd, fft: str) -> "keras.Model":
    """The front-end as a network.

    Args:
        spec: The front-end.
        fft: "builtin" (RFFT2D) or "matrix" (matrix products), as `ExportSpec.fft_of` gives it.

    Returns:
        A model from waveform [batch, n_samples] to features [batch, n_frames, n_mels, n_channels].
    """
    import keras

    from birdnet_fs.frontend.in_keras import FrontEndLayer

    waveform = keras.Input((spec.n_samples,), name="waveform")
    features = FrontEndLayer(spec, transform="rfft2d" if fft == "builtin" else "dft", name="front_end")(waveform)
    features = keras.ops.reshape(
        features, (-1, *spec.shape, 1)
    )  # a Reshape layer would add the batch size to the graph
    if spec.n_channels > 1:
        features = keras.layers.Concatenate(name="channel_copies")([features] * spec.n_channels)
    return keras.Model(waveform, {"features": features}, name="front_end_model")


def window_model(n_samples: int, normalization: str, shape: tuple[int, ...]) -> "keras.Model":
    """A model from windows [batch, n_samples] to the input of an encoder, normalized as its card specifies.

    Args:
        n_samples: Length of a window in samples.
        normalization: A value of `encoders.cards.NORMALIZATIONS`.
        shape: Shape of the encoder's input: (batch, n_samples), (batch, 1, n_samples) or (n_samples,).

    Returns:
        The model.
    """
    import keras

    waveform = keras.Input((n_samples,), batch_size=1 if len(shape) == 1 else None, name="waveform")
    x = waveform if normalization == "none" else _to_peak(waveform)
    if len(shape) != 2:
        x = keras.ops.reshape(x, (n_samples,) if len(shape) == 1 else (-1, 1, n_samples))
    return keras.Model(waveform, {"windows": x}, name="window_model")


def _to_peak(waveform: "keras.KerasTensor") -> "keras.KerasTensor":
    """Subtract the mean of each window and scale its peak to 0.25 (`encoders.open.normalized`); silence stays silent.

    A float32 mean of many samples is not exact. It is subtracted twice, which removes its error, and behind the first
    sample, which makes a constant window exactly silent: the scaling would make any rest of it loud.
    """
    from keras import ops

    x = waveform - waveform[:, :1]
    for _ in range(2):
        x = x - ops.mean(x, axis=1, keepdims=True)
    return x * (PEAK / ops.maximum(ops.max(ops.abs(x), axis=1, keepdims=True), SMALLEST_POSITIVE))


def transpose_features(shape: tuple[int, int, int]) -> "keras.Model":
    """A model from features of shape (n_mels, n_frames, n_channels) to (n_frames, n_mels, n_channels)."""
    import keras

    given = keras.Input(shape, name="features")
    turned = keras.layers.Permute((2, 1, 3), name="time_first")(given)
    return keras.Model(given, {"time_first": turned}, name="turn")


def output_model(
    output_kind: str, activation: str, n_classes: int, maps: Mapping[str, Sequence[float]] | None = None
) -> "keras.Model | None":
    """A model from logits [batch, n_classes] to `predictions` of the same shape.

    Args:
        output_kind: "logits", "probabilities", or "log_odds" of a softmax, as in `ExportSpec`.
        activation: "sigmoid" or "softmax", of the logits.
        n_classes: Number of classes, 1 or more.
        maps: "slope" and "offset" of the log-odds of each class, for calibrated predictions. Default: None.

    Returns:
        The model; None for logits without calibration, which are the predictions themselves.
    """
    import keras
    import numpy as np

    if output_kind == "logits" and maps is None:
        return None
    x = logits = keras.Input((n_classes,), name="logits")
    if output_kind == "log_odds" or (maps is not None and activation == "softmax"):
        x = _log_odds(x)
    if maps is not None:
        slope, offset = (np.array(maps[name], np.float32) for name in ("slope", "offset"))
        x, activation = x * slope + offset, "sigmoid"
    if output_kind == "probabilities":
        x = keras.layers.Activation(activation)(x)
    return keras.Model(logits, {"predictions": x}, name=output_kind)


def _log_odds(logits: "keras.KerasTensor") -> "keras.KerasTensor":
    """Log-odds log p / (1 - p) of the softmax probability p, with 1 - p summed over the other classes.

    Computing 1 - p, or the sum over all classes minus the best, would lose all digits where p is nearly 1.
    """
    from keras import ops

    below = logits - ops.max(logits, axis=-1, keepdims=True)
    powers = ops.exp(below)
    best = ops.cast(below >= 0, "float32")  # more than one class where logits are equal
    of_best = ops.sum(powers * (1 - best), -1, keepdims=True) + (ops.sum(best, -1, keepdims=True) - 1)
    of_others = ops.sum(powers, axis=-1, keepdims=True) - powers  # 1 or more, since the best class is among them
    rest = best * of_best + (1 - best) * of_others
    return below - ops.log(ops.maximum(rest, SMALLEST_POSITIVE))
