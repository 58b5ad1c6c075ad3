"""Replace convolutions that tflite-runtime computes wrongly by equivalent ones that it computes correctly.

These have padding "same" and a stride larger than the kernel (`edit.wrong_on_tflite_runtime`). The same zeros from a
ZeroPadding2D layer, followed by a convolution with padding "valid", give the same result on every runtime.
"""

import keras
from keras import layers


def with_explicit_padding(model: keras.Model) -> keras.Model:
    """Replace the affected convolutions of a model.

    Args:
        model: A Functional model for features of a fixed size; nested models are handled as well.

    Returns:
        A model with explicit padding and equal weights, or `model` itself where no convolution is affected.
    """
    return keras.models.clone_model(model, clone_function=_replace_layer) if _has_any(model) else model


def _has_any(layer: layers.Layer) -> bool:
    if isinstance(layer, keras.Model):
        return any(_has_any(inner) for inner in layer.layers)
    if not isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)) or layer.padding != "same":
        return False
    return any(s > k >= 2 for k, s in zip(layer.kernel_size, layer.strides, strict=True))


def _replace_layer(layer: layers.Layer) -> layers.Layer:
    if isinstance(layer, keras.Model):
        return with_explicit_padding(layer)
    if not _has_any(layer):
        return layer
    if layer.data_format != "channels_last":
        raise ValueError(f"{layer.name} must have data_format channels_last. Received: {layer.data_format}")
    kernel, stride = layer.kernel_size, layer.strides
    shape = layer.input.shape
    zeros = [_zeros(n, k, s) for n, k, s in zip(shape[1:3], kernel, stride, strict=True)]
    convolution = type(layer).from_config({**layer.get_config(), "padding": "valid"})
    padding = layers.ZeroPadding2D(zeros, name=f"{layer.name}_zeros")
    new = keras.Sequential([keras.Input(shape[1:]), padding, convolution], name=f"{layer.name}_with_zeros")
    convolution.set_weights(layer.get_weights())
    return new


def _zeros(n: int, kernel: int, stride: int) -> tuple[int, int]:
    """Number of zeros that padding "same" adds before and after; the odd one goes after.

    Where the stride skips values, one more zero is added after, which the convolution never reads: without it the
    converter recognizes the pattern and writes padding "same" again.
    """
    total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
    return total // 2, total - total // 2 + (stride > kernel >= 2)
