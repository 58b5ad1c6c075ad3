"""Rules that convert each layer of a float network to 8 bits (convert.py): RULES maps a layer's type to a function.

The arguments of a rule are the traversal, the layer of the float network and the converted values of its inputs; it
returns the converted value of its output. The operators follow TFLite,
https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec: the output of pooling,
concatenation and a separate ReLU has the scale of the input.
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

MOST_WEIGHTS = 2**25  # of a kernel: above 128 MiB the TFLite converter keeps the fake quantization in the file
WEIGHTED: dict[type, Any] = {
    layers.Conv2D: QuantizedConv2D,
    layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    layers.Dense: QuantizedDense,
}
MOVING = (  # the output has values of the input only, or the layer is the identity in inference
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
    """Initial weights of a layer.

    Attributes:
        kernel: Kernel with the output channels in the last axis (depthwise: last two axes).
        bias: [n_channels].
    """

    kernel: np.ndarray
    bias: np.ndarray

    def scale(self, factor: np.ndarray, offset: np.ndarray) -> None:
        """Change the weights so that the output is multiplied by a factor and an offset added, [n_channels] each."""
        last = self.kernel.shape[2:] if self.kernel.shape[-1] != len(factor) else (len(factor),)
        self.kernel = self.kernel * factor.reshape(last)
        self.bias = self.bias * factor + offset


@dataclass(frozen=True)
class Value:
    """A tensor of the new graph.

    Attributes:
        tensor: The tensor.
        name: Layer of the float network whose output it is.
        grid: Layer that rounded it; None if it is not rounded yet, because the next layer is part of the same operator.
        source: Layer with weights into which a following BatchNormalization can be folded; None if there is none.
    """

    tensor: Any
    name: str
    grid: Any = None
    source: Any = None


def is_joined(layer: Any) -> bool:
    """Whether a runtime merges this layer into the operator before it, or rounds the inputs as its output."""
    if type(layer) in (layers.ReLU, layers.Concatenate):
        return True
    return type(layer) is layers.Activation and layer.activation in (activations.relu, activations.relu6)


def is_norm(layer: Any) -> bool:
    """Whether a layer is a BatchNormalization."""
    return type(layer) is layers.BatchNormalization


def _layer_with_weights(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    """A convolution or dense layer, and its activation."""
    config = {**layer.get_config(), "use_bias": True, "activation": None}
    new = WEIGHTED[type(layer)].from_config(config)
    kernel = _array(layer.kernel)
    if kernel.size > MOST_WEIGHTS:
        raise walk.refusal(f"a kernel of {kernel.size:,} numbers in {layer.name!r}, more than {MOST_WEIGHTS:,},")
    n_channels = kernel.shape[2] * kernel.shape[3] if isinstance(layer, layers.DepthwiseConv2D) else kernel.shape[-1]
    bias = np.zeros(n_channels) if layer.bias is None else _array(layer.bias)
    value = walk.with_weights(new, given[0], Weights(kernel, bias))
    if layer.activation is activations.linear:
        return value
    return walk.with_activation(value, layer.activation, f"{layer.name}_act", f"{layer.name}_linear")


def _batch_norm(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    """BatchNormalization with its moving statistics."""
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
        raise walk.refusal(f"a layer {layer.name!r} over axis {axis} of {len(value.tensor.shape)}")
    value = walk.rounded(value)  # the bands become channels, and are moved back after it
    n_frames, n_bands, n_channels = value.tensor.shape[1:]

    def turned(x: Any, shape: tuple[int, ...], name: str) -> Any:
        return (layers.Reshape(shape, name=name) if n_channels == 1 else layers.Permute((1, 3, 2), name=name))(x)

    turn = replace(value, tensor=turned(value.tensor, (n_frames, n_channels, n_bands), f"{layer.name}_turn"))
    done = walk.rounded(_affine(walk, layer.name, turn, factor, offset))
    return replace(done, tensor=turned(done.tensor, (n_frames, n_bands, n_channels), f"{layer.name}_back"), source=None)


def _affine(walk: "QuantizingWalk", name: str, value: Value, factor: np.ndarray, offset: np.ndarray) -> Value:
    """A factor and an offset for each channel of a map [batch, height, width, n_channels]."""
    if len(value.tensor.shape) != 4:
        raise walk.refusal(f"a layer {name!r} on an input of {len(value.tensor.shape)} axes")
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
    """Apply a ReLU layer: merged into the operator before it, or separate with the range of its input."""
    tensor = layer(value.tensor)
    if value.grid is not None:  # the values are on the grid already, but the converter needs the range
        tensor = RoundedToGrid(value.grid, name=f"{layer.name}_range")(tensor)
    return replace(value, tensor=tensor, source=None)


def _rearranging_layer(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    value = walk.rounded(given[0])
    return replace(value, tensor=_copy(layer)(value.tensor), source=None)


def _average_pool(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    """The output of TFLite's average pooling has the scale of its input; a BatchNormalization commutes with it."""
    value = walk.rounded(given[0])
    mean = _copy(layer)(value.tensor)
    return replace(value, tensor=RoundedToGrid(value.grid, name=f"{layer.name}_range")(mean))


def _concatenate(walk: "QuantizingWalk", layer: Any, given: list[Value]) -> Value:
    """Concatenation, with the range of the output for all inputs."""
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
