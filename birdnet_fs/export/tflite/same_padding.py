"""Convolutions that tflite-runtime computes wrongly, written so that it computes them rightly.

See `flatbuffer.wrong_on_tflite_runtime`: padding "same" with a stride beyond the kernel. The same zeros put there by a
layer of their own, and padding "valid", give the same numbers everywhere.
"""

import keras
from keras import layers


def with_explicit_padding(model: keras.Model) -> keras.Model:
    """The model with explicit zeros where they are needed, weights and all else shared; else the same model.

    Args:
        model: A Functional model for features of a known size; models inside it are gone through as well.
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
        raise ValueError(f"{layer.name} must read channels last; it reads {layer.data_format}")
    kernel, stride = layer.kernel_size, layer.strides
    shape = layer.input.shape
    zeros = [_zeros(n, k, s) for n, k, s in zip(shape[1:3], kernel, stride, strict=True)]
    convolution = type(layer).from_config({**layer.get_config(), "padding": "valid"})
    padding = layers.ZeroPadding2D(zeros, name=f"{layer.name}_zeros")
    new = keras.Sequential([keras.Input(shape[1:]), padding, convolution], name=f"{layer.name}_with_zeros")
    convolution.set_weights(layer.get_weights())
    return new


def _zeros(n: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros in front and behind that padding "same" stands for, the odd one behind.

    Where values are skipped there is one more behind, which the convolution never reaches: without it the converter
    sees what the zeros stand for and writes padding "same" again.
    """
    total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
    return total // 2, total - total // 2 + (stride > kernel >= 2)
