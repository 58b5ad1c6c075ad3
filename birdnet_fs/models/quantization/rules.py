"""What becomes of each layer in a network of 8 bits (quantized.py): RULES maps a layer's type to a function.

A rule is given the walk, the layer of the float network and the values it read, and returns the value that stands for
its result. The rules of the operators are those of TFLite,
https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec: poolings, concatenations and
a ReLU alone give the scale of their input.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import activations, layers, ops

from birdnet_fs.models.blocks import LayerScale
from birdnet_fs.models.efficientnet import SMALLEST_DEVIATION, Standardize
from birdnet_fs.models.quantization.fake_quant import (
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    RoundedToGrid,
)
from birdnet_fs.models.spec_augment import SpecAugment

if TYPE_CHECKING:
    from birdnet_fs.models.quantization.convert import QuantizingWalk

MOST_WEIGHTS = 2**25  # of a kernel: above 128 MiB the TFLite converter leaves the rounding in, which no runtime has
WEIGHTED: dict[type, Any] = {
    layers.Conv2D: QuantizedConv2D,
    layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    layers.Dense: QuantizedDense,
}
MOVING = (  # of values that are in the input; and what is nothing outside training
    layers.MaxPooling2D,
    layers.GlobalMaxPooling2D,
    layers.ZeroPadding2D,
    layers.Cropping2D,
    layers.Reshape,
    layers.Flatten,
    layers.Permute,
    layers.Dropout,
    layers.SpatialDropout2D,
    layers.GaussianNoise,
    SpecAugment,
)
COMPUTING = (layers.GlobalAveragePooling2D, layers.Add, layers.Multiply, layers.Subtract)


@dataclass
class Weights:
    """What a layer starts with: kernel with the output channels last (depthwise: last two axes), bias [channels]."""

    kernel: np.ndarray
    bias: np.ndarray

    def scale(self, factor: np.ndarray, offset: np.ndarray) -> None:
        """Multiply the output by a factor and add an offset, [channels] each."""
        last = self.kernel.shape[2:] if self.kernel.shape[-1] != len(factor) else (len(factor),)
        self.kernel = self.kernel * factor.reshape(last)
        self.bias = self.bias * factor + offset


@dataclass(frozen=True)
class Value:
    """A tensor of the new graph.

    Attributes:
        name: The float network's layer whose result it is.
        grid: The layer that rounded it; None = not rounded yet, because what follows is part of the same operator.
        source: The layer with weights that a BatchNormalization behind it goes into; None = there is none.
    """

    tensor: Any
    name: str
    grid: Any = None
    source: Any = None


def is_joined(layer: Any) -> bool:
    """Whether a runtime makes one operator of this layer and what gives its only input, or rounds for this one."""
    if type(layer) in (layers.ReLU, layers.Concatenate):
        return True
    return type(layer) is layers.Activation and layer.activation in (activations.relu, activations.relu6)


def is_norm(layer: Any) -> bool:
    """Whether it is a BatchNormalization."""
    return type(layer) is layers.BatchNormalization


def _layer_with_weights(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    """A convolution or dense layer, and behind it its own activation."""
    config = {**layer.get_config(), "use_bias": True, "activation": None}
    new = WEIGHTED[type(layer)].from_config(config)
    kernel = _array(layer.kernel)
    if kernel.size > MOST_WEIGHTS:
        raise walk.unknown(f"a kernel of {kernel.size:,} numbers in {layer.name!r}, more than {MOST_WEIGHTS:,},")
    n_channels = kernel.shape[2] * kernel.shape[3] if isinstance(layer, layers.DepthwiseConv2D) else kernel.shape[-1]
    bias = np.zeros(n_channels) if layer.bias is None else _array(layer.bias)
    value = walk.with_weights(new, given[0], Weights(kernel, bias))
    if layer.activation is activations.linear:
        return value
    return walk.with_activation(value, layer.activation, f"{layer.name}_act", f"{layer.name}_linear")


def _batch_norm(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    """BatchNormalization, as it computes outside training."""
    value = given[0]
    factor = 1 / np.sqrt(_array(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        factor = factor * _array(layer.gamma)
    offset = -_array(layer.moving_mean) * factor
    if layer.center:
        offset = offset + _array(layer.beta)
    axis = layer.axis % len(value.tensor.shape)
    if value.source is not None and axis == len(value.tensor.shape) - 1:
        walk.values[value.source].scale(factor, offset)
        return value
    if axis == len(value.tensor.shape) - 1:
        return _affine(walk, layer.name, value, factor, offset)
    if (axis, len(value.tensor.shape)) != (2, 4):
        raise walk.unknown(f"a layer {layer.name!r} over axis {axis} of {len(value.tensor.shape)}")
    value = walk.rounded(value)  # bands as channels and back
    n_frames, n_bands, n_channels = value.tensor.shape[1:]

    def turned(x: Any, shape: tuple[int, ...], name: str) -> Any:
        return (layers.Reshape(shape, name=name) if n_channels == 1 else layers.Permute((1, 3, 2), name=name))(x)

    turn = replace(value, tensor=turned(value.tensor, (n_frames, n_channels, n_bands), f"{layer.name}_turn"))
    done = walk.rounded(_affine(walk, layer.name, turn, factor, offset))
    return replace(done, tensor=turned(done.tensor, (n_frames, n_bands, n_channels), f"{layer.name}_back"), source=None)


def _affine(walk: "QuantizingWalk", name: str, value: Value, factor: np.ndarray, offset: np.ndarray) -> Value:
    """A map [batch, height, width, channels] times a factor and plus an offset for each channel."""
    if len(value.tensor.shape) != 4:
        raise walk.unknown(f"a layer {name!r} on rows")
    layer = QuantizedDepthwiseConv2D(1, name=name)
    return walk.with_weights(layer, value, Weights(factor.reshape(1, 1, -1, 1), offset))


def _standardize(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    factor = 1 / np.maximum(np.sqrt(_array(layer.variance)), SMALLEST_DEVIATION)
    return _affine(walk, layer.name, given[0], factor, -_array(layer.mean) * factor)


def _layer_scale(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    factor = _array(layer.gamma)
    return _affine(walk, layer.name, given[0], factor, np.zeros_like(factor))


def _activation(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    return walk.with_activation(given[0], layer.activation, layer.name, "")


def _relu(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    return relu(given[0], _copy(layer))


def relu(value: Value, layer: Any) -> Value:
    """A value behind a ReLU: part of the operator that gives the value, else one that keeps the grid of its input."""
    tensor = layer(value.tensor)
    if value.grid is not None:  # it is on the grid already, but the converter wants to be told
        tensor = RoundedToGrid(value.grid, name=f"{layer.name}_range")(tensor)
    return replace(value, tensor=tensor, source=None)


def _rearranging_layer(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    value = walk.rounded(given[0])
    return replace(value, tensor=_copy(layer)(value.tensor), source=None)


def _average_pool(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    """TFLite's average pooling gives the scale of its input; a BatchNormalization behind it may as well be in front."""
    value = walk.rounded(given[0])
    mean = _copy(layer)(value.tensor)
    return replace(value, tensor=RoundedToGrid(value.grid, name=f"{layer.name}_range")(mean))


def _concatenate(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    """All inputs get the range of the result."""
    return Value(_copy(layer)([value.tensor for value in given]), layer.name)


def _computing_layer(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    tensors = [walk.rounded(value).tensor for value in given]
    return Value(_copy(layer)(tensors if len(tensors) > 1 else tensors[0]), layer.name)


def _copy(layer: Any) -> Any:
    return type(layer).from_config(layer.get_config())


def _array(variable: Any) -> np.ndarray:
    return ops.convert_to_numpy(variable).astype(np.float64)


Rule = Callable[["QuantizingWalk", Any, list[Value]], Value]
RULES: dict[type, Rule] = {
    **dict.fromkeys(WEIGHTED, _layer_with_weights),
    **dict.fromkeys(MOVING, _rearranging_layer),
    **dict.fromkeys(COMPUTING, _computing_layer),
    layers.BatchNormalization: _batch_norm,
    layers.AveragePooling2D: _average_pool,
    layers.Concatenate: _concatenate,
    layers.Activation: _activation,
    layers.ReLU: _relu,
    LayerScale: _layer_scale,
    Standardize: _standardize,
}
