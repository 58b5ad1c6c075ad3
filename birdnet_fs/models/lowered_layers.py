"""Keras layers as plain torch calls: RULES maps a layer's type to a function that returns its call.

Tensors are NHWC between the calls; `permute(0, 3, 1, 2)` of such a tensor is what torch calls channels_last, so
convolutions and pooling need no copy. The semantics are Keras': "same" padding puts the odd cell at the end,
BatchNormalization moves its variance by the biased estimate, dropout with a noise shape is stochastic depth.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from keras import activations, layers
from torch import Tensor

Call = Callable[..., Any]  # (training, *inputs) -> output
Rule = Callable[..., Call | None]  # (layer, *layers of one step behind it) -> its call, None when not covered

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D)
ACTIVATION_LAYERS = (layers.Activation, layers.ReLU)

# ---------------------------------------------------------------- activations


def _softmax(x: Tensor) -> Tensor:
    return F.softmax(x, dim=-1)


ACTIVATIONS: dict[Any, Callable[[Tensor], Tensor] | None] = {
    activations.linear: None,
    activations.relu: F.relu,
    activations.silu: F.silu,
    activations.sigmoid: torch.sigmoid,
    activations.tanh: torch.tanh,
    activations.softmax: _softmax,
    activations.gelu: F.gelu,
}
ELEMENTWISE = {F.relu, F.relu6, F.silu, F.gelu, torch.sigmoid, torch.tanh}  # the same in any order of the axes


def activation_of(layer: Any) -> Callable[[Tensor], Tensor] | None:
    """The torch function of a layer's activation, None for none; one without a row works on tensors as it is."""
    if isinstance(layer, layers.ReLU):
        if layer.negative_slope or layer.threshold or layer.max_value not in (None, 6):
            return layer.call
        return F.relu if layer.max_value is None else F.relu6
    function = getattr(layer, "activation", None)
    return None if function is None else ACTIVATIONS.get(function, function)


def _in_place(activation: Callable[[Tensor], Tensor] | None) -> Callable[[Tensor], Tensor] | None:
    """The same for a tensor that nobody else reads; ReLU's gradient needs its output only, SiLU's its input."""
    if activation is F.relu:
        return torch.relu_
    if activation is F.silu:
        return lambda x: F.silu(x, inplace=not (x.requires_grad and torch.is_grad_enabled()))
    return activation


def _activation_layer(layer: Any) -> Call:
    function = activation_of(layer)
    return (lambda training, x: x) if function is None else (lambda training, x: function(x))


# ---------------------------------------------------------------- padding and weights


def _same_padding(length: int, window: int, stride: int, dilation: int) -> tuple[int, int]:
    """(before, after) for TensorFlow's "same": ceil(length / stride) outputs, the odd cell at the end."""
    total = max(0, (-(-length // stride) - 1) * stride + (window - 1) * dilation + 1 - length)
    return total // 2, total - total // 2


def _padder(layer: Any, window: Sequence[int], mode: str) -> Callable[[Tensor], tuple[Tensor, Any]]:
    """A function of an NCHW tensor: (padded where torch's symmetric padding will not do, that padding)."""
    if layer.padding == "valid":
        return lambda x: (x, 0)
    strides, dilation = layer.strides, getattr(layer, "dilation_rate", (1, 1))
    known: dict[tuple[int, int], tuple[Any, Any]] = {}

    def pad(x: Tensor) -> tuple[Tensor, Any]:
        size = (x.shape[2], x.shape[3])
        if size not in known:
            top, left = (_same_padding(size[i], window[i], strides[i], dilation[i]) for i in (0, 1))
            even = top[0] == top[1] and left[0] == left[1]
            known[size] = (None, (top[0], left[0])) if even else ((*left, *top), 0)
        outside, inside = known[size]
        return (x if outside is None else F.pad(x, outside, mode=mode)), inside

    return pad


def _restride(parameter: Tensor, to_torch: Sequence[int], back: Sequence[int]) -> None:
    """Store a kernel in torch's order; its shape and values as Keras sees them stay the same."""
    with torch.no_grad():
        stored = parameter.detach().permute(*to_torch).contiguous(memory_format=torch.channels_last)
        parameter.data = stored.permute(*back)


def _kernel(layer: Any) -> Callable[[], Tensor]:
    """The kernel as torch sees it, [out, in, height, width], always a view of the Parameter."""
    parameter = layer.kernel.value
    if isinstance(layer, layers.DepthwiseConv2D):
        height, width, n_in, multiplier = parameter.shape
        _restride(parameter, (2, 3, 0, 1), (2, 3, 0, 1))
        return lambda: parameter.permute(2, 3, 0, 1).reshape(n_in * multiplier, 1, height, width)
    _restride(parameter, (3, 2, 0, 1), (2, 3, 1, 0))
    return lambda: parameter.permute(3, 2, 0, 1)


def _value(variable: Any) -> Tensor | None:
    return None if variable is None else variable.value


# ---------------------------------------------------------------- layers with weights


def _conv(layer: Any, *behind: Any) -> Call | None:
    """A convolution, and behind it a BatchNormalization to fold in, an activation, or both."""
    own = activation_of(layer)
    if layer.data_format != "channels_last" or getattr(layer, "lora_enabled", False):
        return None
    if own is not None and own not in ELEMENTWISE:
        return None
    kernel, bias = _kernel(layer), layer.bias.value if layer.use_bias else None
    for after in behind:
        if isinstance(after, layers.BatchNormalization):
            kernel, bias = _folded(kernel, bias, after)
        else:
            own = activation_of(after)
    activation = _in_place(own)
    strides, dilation, pad = layer.strides, layer.dilation_rate, _padder(layer, layer.kernel_size, "constant")
    groups = layer.kernel.shape[2] if isinstance(layer, layers.DepthwiseConv2D) else layer.groups

    def call(training: bool, x: Tensor) -> Tensor:
        x, padding = pad(x.permute(0, 3, 1, 2))
        y = F.conv2d(x, kernel(), bias, strides, padding, dilation, groups)
        if activation is not None:
            y = activation(y)
        return y.permute(0, 2, 3, 1)

    return call


def _folded(kernel: Callable[[], Tensor], bias: Tensor | None, norm: Any) -> tuple[Callable[[], Tensor], Tensor]:
    """Kernel and bias of one convolution that also normalises: a factor and an offset for each channel."""
    with torch.no_grad():
        scale = torch.rsqrt(norm.moving_variance.value + norm.epsilon)
        if norm.scale:
            scale = scale * norm.gamma.value
        offset = ((0.0 if bias is None else bias) - norm.moving_mean.value) * scale
        if norm.center:
            offset = offset + norm.beta.value
        weight = (kernel() * scale.reshape(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
    return lambda: weight, offset


def _dense(layer: Any) -> Call | None:
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return None
    kernel, bias, activation = layer.kernel.value, _value(layer.bias), _in_place(activation_of(layer))
    if activation is None:
        return lambda training, x: F.linear(x, kernel.t(), bias)
    return lambda training, x: activation(F.linear(x, kernel.t(), bias))


def _batch_norm(layer: Any, *behind: Any) -> Call | None:
    """BatchNormalization, and an activation behind it."""
    if layer.renorm or not isinstance(layer.axis, int):
        return None
    mean, variance = layer.moving_mean.value, layer.moving_variance.value
    gamma = layer.gamma.value if layer.scale else None
    beta = layer.beta.value if layer.center else None
    activation = _in_place(activation_of(behind[0])) if behind else None
    axis, momentum, epsilon = layer.axis, layer.momentum, layer.epsilon

    def call(training: bool, x: Tensor) -> Tensor:
        y = x.movedim(axis, 1)
        n = y.numel() // y.shape[1]
        if not (training and layer.trainable):
            y = F.batch_norm(y, mean, variance, gamma, beta, False, 0.0, epsilon)
        elif n < 2:  # torch refuses the variance of one value, Keras gives 0
            y = layer(x, training=True).movedim(axis, 1)
        else:
            # torch would move the variance by the unbiased estimate, Keras does by the biased one: torch is given
            # zeros, which become (1 - momentum) times its estimate
            moved = torch.zeros_like(variance)
            y = F.batch_norm(y, mean, moved, gamma, beta, True, 1.0 - momentum, epsilon)
            with torch.no_grad():
                variance.mul_(momentum).add_(moved, alpha=(n - 1) / n)
        if activation is not None:
            y = activation(y)
        return y.movedim(1, axis)

    return call


def _layer_norm(layer: Any) -> Call | None:
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    rank = len(layer._build_shapes_dict["input_shape"])
    if list(axes) not in ([-1], [rank - 1]) or getattr(layer, "rms_scaling", False):
        return None
    gamma, beta, epsilon = _value(layer.gamma), _value(layer.beta), layer.epsilon
    return lambda training, x: F.layer_norm(x, x.shape[-1:], gamma, beta, epsilon)


# ---------------------------------------------------------------- layers without weights


def _dropout(layer: Any) -> Call:
    rate, shape = layer.rate, layer.noise_shape
    if shape is None:
        return lambda training, x: F.dropout(x, rate, training)
    return lambda training, x: _drop_shared(x, rate, shape) if training and rate > 0 else x


def _spatial_dropout(layer: Any) -> Call | None:
    rate, shape = layer.rate, (None, 1, 1, None)
    if layer.data_format != "channels_last":
        return None
    return lambda training, x: _drop_shared(x, rate, shape) if training and rate > 0 else x


def _drop_shared(x: Tensor, rate: float, shape: Sequence[int | None]) -> Tensor:
    """Dropout with one draw for all cells along an axis of size 1 in `shape` (None = as many as x has)."""
    keep = x.new_empty([n if m is None else m for n, m in zip(x.shape, shape, strict=True)])
    return x * keep.bernoulli_(1.0 - rate).div_(1.0 - rate)


def _global_pool(layer: Any) -> Call | None:
    keep = layer.keepdims
    if layer.data_format != "channels_last":
        return None
    if isinstance(layer, layers.GlobalAveragePooling2D):
        return lambda training, x: x.mean((1, 2), keepdim=keep)
    return lambda training, x: x.amax((1, 2), keepdim=keep)


def _pool(layer: Any) -> Call | None:
    if layer.data_format != "channels_last":
        return None
    window, strides, pad = tuple(layer.pool_size), tuple(layer.strides), _padder(layer, layer.pool_size, "replicate")
    average = isinstance(layer, layers.AveragePooling2D)
    whole_axis = average and layer.padding == "valid" and strides == window

    def call(training: bool, x: Tensor) -> Tensor:
        if whole_axis and window in ((x.shape[1], 1), (1, x.shape[2])):  # avg_pool2d is slow on such windows
            return x.mean(1 if window == (x.shape[1], 1) else 2, keepdim=True)
        x, padding = pad(x.permute(0, 3, 1, 2))
        if average:
            y = F.avg_pool2d(x, window, strides, padding, count_include_pad=False)
        else:
            y = F.max_pool2d(x, window, strides, padding)
        return y.permute(0, 2, 3, 1)

    return call


def _zero_padding(layer: Any) -> Call | None:
    (top, bottom), (left, right) = layer.padding
    around = (0, 0, left, right, top, bottom)
    return (lambda training, x: F.pad(x, around)) if layer.data_format == "channels_last" else None


def _rescaling(layer: Any) -> Call | None:
    scale, offset = layer.scale, layer.offset
    if not isinstance(scale, (int, float)) or not isinstance(offset, (int, float)):
        return None
    return lambda training, x: x * scale + offset


def _flatten(layer: Any) -> Call | None:
    return (lambda training, x: x.reshape(x.shape[0], -1)) if layer.data_format == "channels_last" else None


def _merge(operation: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    """A merge of tensors of equal rank; Keras lines others up by rules of its own."""

    def rule(layer: Any) -> Call | None:
        if len({len(shape) for shape in layer._build_shapes_dict["input_shape"]}) != 1:
            return None

        def call(training: bool, first: Tensor, *others: Tensor) -> Tensor:
            for x in others:
                first = operation(first, x)
            return first

        return call

    return rule


RULES: dict[type, Rule] = {
    layers.Conv2D: _conv,
    layers.DepthwiseConv2D: _conv,
    layers.Dense: _dense,
    layers.BatchNormalization: _batch_norm,
    layers.LayerNormalization: _layer_norm,
    layers.Activation: _activation_layer,
    layers.ReLU: _activation_layer,
    layers.Dropout: _dropout,
    layers.SpatialDropout2D: _spatial_dropout,
    layers.GlobalAveragePooling2D: _global_pool,
    layers.GlobalMaxPooling2D: _global_pool,
    layers.AveragePooling2D: _pool,
    layers.MaxPooling2D: _pool,
    layers.ZeroPadding2D: _zero_padding,
    layers.Rescaling: _rescaling,
    layers.Reshape: lambda layer: lambda training, x: x.reshape(x.shape[0], *layer.target_shape),
    layers.Flatten: _flatten,
    layers.Permute: lambda layer: lambda training, x: x.permute(0, *layer.dims),
    layers.Add: _merge(torch.add),
    layers.Multiply: _merge(torch.mul),
    layers.Subtract: _merge(torch.sub),
    layers.Concatenate: lambda layer: lambda training, *xs: torch.cat(xs, dim=layer.axis),
}
