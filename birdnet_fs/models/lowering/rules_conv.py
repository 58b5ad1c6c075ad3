"""Rules that lower convolutions, BatchNormalization, pooling and padding; channels first.

As in Keras, "same" padding adds an odd cell at the end, and BatchNormalization updates its variance by the biased
estimate. Zero padding in front of a convolution and an activation after it are merged into its call, and with `fold`
a BatchNormalization is folded into its kernel.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from keras import layers
from torch import Tensor

from birdnet_fs.core.distributed import group
from birdnet_fs.models.lowering.calls import (
    ACTIVATION_LAYERS,
    ELEMENTWISE,
    MERGES,
    LayerContext,
    LoweredCall,
    Rule,
    Shape,
    Weights,
    activation_behind,
    activation_of,
    is_changed,
    restride,
    value_of,
)
from birdnet_fs.models.lowering.rules_layers import sides
from birdnet_fs.models.lowering.sync_batch_norm import sync_batch_norm
from birdnet_fs.models.quantization.fake_quant import QuantizedConv2D, QuantizedDense, QuantizedDepthwiseConv2D

# size of a kernel from which torch's copy of its channels_last gradient costs more than a copy of the maps
LARGE_KERNEL = 4_000_000
CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.DepthwiseConv2D, QuantizedConv2D, QuantizedDepthwiseConv2D)


def _same_padding(length: int, window: int, stride: int, dilation: int) -> tuple[int, int]:
    """(before, after) for TensorFlow's "same": ceil(length / stride) outputs, the odd cell at the end."""
    total = max(0, (-(-length // stride) - 1) * stride + (window - 1) * dilation + 1 - length)
    return total // 2, total - total // 2


def _padding(layer: Any, shape: Shape, window: Sequence[int]) -> tuple[list[int], tuple[int, ...]] | None:
    """(padding for F.pad, padding argument of torch's function); None if the padding depends on an unknown length."""
    lengths = shape[1:-1]
    if layer.padding == "valid":
        return [], (0,) * len(lengths)
    if layer.padding != "same":
        return None
    dilations = getattr(layer, "dilation_rate", (1,) * len(lengths))
    pads = []
    for length, size, stride, dilation in zip(lengths, window, layer.strides, dilations, strict=True):
        if length is None and stride > 1:
            return None
        pads.append(_same_padding(length or 1, size, stride, dilation))
    if all(before == after for before, after in pads):
        return [], tuple(before for before, _ in pads)
    return [n for pad in reversed(pads) for n in pad], (0,) * len(lengths)


def _kernel(layer: Any) -> Callable[[], Tensor]:
    """Function that returns the kernel in torch's order [out, in, height, width], a view of the Parameter."""
    parameter = layer.kernel.value
    if isinstance(layer, layers.Conv1D):
        return lambda: parameter.permute(2, 1, 0)
    if isinstance(layer, layers.DepthwiseConv2D):
        height, width, n_in, multiplier = parameter.shape
        restride(parameter, (2, 3, 0, 1), (2, 3, 0, 1), torch.channels_last)
        return lambda: parameter.permute(2, 3, 0, 1).reshape(n_in * multiplier, 1, height, width)
    memory = torch.contiguous_format if parameter.numel() >= LARGE_KERNEL else torch.channels_last
    restride(parameter, (3, 2, 0, 1), (2, 3, 1, 0), memory)
    return lambda: parameter.permute(3, 2, 0, 1)


def _conv(site: LayerContext) -> LoweredCall | None:
    """A convolution, with zero padding before it and a folded BatchNormalization and an activation after it."""
    layer, behind, zeros = site.layer, list(site.behind), None
    if isinstance(layer, layers.ZeroPadding2D):
        zeros, layer = layer, behind.pop(0)
    own = activation_of(layer)
    if layer.data_format != "channels_last" or is_changed(layer) or (own is not None and own not in ELEMENTWISE):
        return None
    padding = _padding(layer, site.shapes[0], layer.kernel_size)
    if padding is None:
        return None
    outside, inside = padding
    if zeros is not None:
        inside = tuple(before for before, _ in zeros.padding)
    kernel, bias = _kernel(layer), value_of(layer.bias)
    norm = next((after for after in behind if isinstance(after, layers.BatchNormalization)), None)
    activation = activation_behind(site, own)
    convolve: Any = F.conv1d if isinstance(layer, layers.Conv1D) else F.conv2d
    strides, dilation = layer.strides, layer.dilation_rate
    groups = layer.kernel.shape[2] if isinstance(layer, layers.DepthwiseConv2D) else layer.groups
    large = layer.kernel.value.numel() >= LARGE_KERNEL

    def run(training: bool, weights: Weights, x: Tensor) -> Tensor:
        weight, bias = weights
        if large and weight.is_contiguous():
            x = x.contiguous()
        if outside:
            x = F.pad(x, outside)
        y = convolve(x, weight, bias, strides, inside, dilation, groups)
        return y if activation is None else activation(y)

    weights = (lambda: (kernel(), bias)) if norm is None else (lambda: _folded(kernel(), bias, norm))
    return LoweredCall(run, weights, ("weight", "bias"), channels_first=True)


def _folded(kernel: Tensor, bias: Tensor | None, norm: Any) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution with the BatchNormalization after it folded in."""
    scale = torch.rsqrt(norm.moving_variance.value + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma.value
    offset = ((0.0 if bias is None else bias) - norm.moving_mean.value) * scale
    if norm.center:
        offset = offset + norm.beta.value
    return kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1)), offset


def _batch_norm(site: LayerContext) -> LoweredCall | None:
    """BatchNormalization, with an activation after it."""
    layer, rank = site.layer, len(site.shapes[0])
    if layer.renorm or not isinstance(layer.axis, int):
        return None
    last = layer.axis in (-1, rank - 1)
    as_rows = last and rank == 3  # torch is slow on [batch, n_frames, width] unless the first two axes are merged
    channels_first = last and not as_rows
    axis = 1 if last else layer.axis  # of the channels in the tensor that is normalized
    values = tuple(value_of(v) for v in (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta))
    activation = activation_behind(site)
    momentum, epsilon = layer.momentum, layer.epsilon

    def run(training: bool, weights: Weights, x: Tensor) -> Tensor:
        mean, variance, gamma, beta = weights
        y = x.flatten(0, 1) if as_rows else x if axis == 1 else x.movedim(axis, 1)
        n = y.numel() // y.shape[1] if training else 0
        if not (training and layer.trainable):
            y = F.batch_norm(y, mean, variance, gamma, beta, False, 0.0, epsilon)
        elif group.size() > 1:
            y = sync_batch_norm(y, mean, variance, gamma, beta, momentum=momentum, epsilon=epsilon)
        elif n < 2:  # torch refuses the variance of one value, Keras returns 0
            keras_order = layer(x.movedim(1, -1) if channels_first else x, training=True)
            y = keras_order.reshape(y.shape)  # one value in each channel: nothing to permute
        else:
            # torch updates the variance by the unbiased estimate, Keras by the biased one: updated by torch, zeros
            # become (1 - momentum) times its estimate
            moved = torch.zeros_like(variance)
            y = F.batch_norm(y, mean, moved, gamma, beta, True, 1.0 - momentum, epsilon)
            with torch.no_grad():
                variance.mul_(momentum).add_(moved, alpha=(n - 1) / n)
        if activation is not None:
            y = activation(y)
        if as_rows:
            return y.reshape(-1, *x.shape[1:])
        return y if axis == 1 else y.movedim(1, axis)

    return LoweredCall(run, lambda: values, ("mean", "variance", "gamma", "beta"), channels_first)


def _pool(site: LayerContext) -> LoweredCall | None:
    """Pooling; zero padding in front of max pooling after a ReLU becomes its padding."""
    layer, shape, zeros = site.layer, site.shapes[0], None
    if isinstance(layer, layers.ZeroPadding2D):
        zeros, layer = layer, site.behind[0]
    padding = _padding(layer, shape, layer.pool_size)
    if layer.data_format != "channels_last" or padding is None:
        return None
    outside, inside = padding
    if zeros is not None:
        inside = tuple(before for before, _ in zeros.padding)
    window, strides = tuple(layer.pool_size), tuple(layer.strides)
    average = isinstance(layer, (layers.AveragePooling1D, layers.AveragePooling2D))
    if average and layer.padding == "valid" and strides == window:
        whole = [i for i, (size, length) in enumerate(zip(window, shape[1:-1], strict=True), 2) if size == length]
        if math.prod(window) == math.prod(shape[i - 1] for i in whole):  # avg_pool2d is slow on such windows
            return LoweredCall(
                lambda training, weights, x: x.mean(whole, keepdim=True) if whole else x, channels_first=True
            )
    pooling = {
        layers.AveragePooling1D: lambda x: F.avg_pool1d(x, window, strides, inside, count_include_pad=False),
        layers.AveragePooling2D: lambda x: F.avg_pool2d(x, window, strides, inside, count_include_pad=False),
        layers.MaxPooling1D: lambda x: F.max_pool1d(x, window, strides, inside),
        layers.MaxPooling2D: lambda x: F.max_pool2d(x, window, strides, inside),
    }[type(layer)]

    def run(training: bool, weights: Weights, x: Tensor) -> Tensor:
        return pooling(F.pad(x, outside, mode="replicate") if outside else x)

    return LoweredCall(run, channels_first=True)


def _zero_padding(site: LayerContext) -> LoweredCall | None:
    if site.behind:
        return _pool(site) if type(site.behind[0]) is layers.MaxPooling2D else _conv(site)
    around = sides(site)
    if around is None:
        return None
    zeros = around if site.channels_first else [0, 0, *around]
    return LoweredCall(lambda training, weights, x: F.pad(x, zeros), channels_first=site.channels_first)


RULES: dict[type, Rule] = {
    layers.Conv1D: _conv,
    layers.Conv2D: _conv,
    layers.DepthwiseConv2D: _conv,
    layers.BatchNormalization: _batch_norm,
    layers.AveragePooling1D: _pool,
    layers.AveragePooling2D: _pool,
    layers.MaxPooling1D: _pool,
    layers.MaxPooling2D: _pool,
    layers.ZeroPadding1D: _zero_padding,
    layers.ZeroPadding2D: _zero_padding,
}


def follows(last: Any, after: Any, fold: bool) -> bool:
    """Whether two consecutive calls can be merged into one.

    Args:
        last: A node of the graph.
        after: The only node that reads the result of `last`.
        fold: Whether every BatchNormalization is folded into the convolution before it.

    Returns:
        True if a rule supports `after` as one of the layers behind `last`.
    """
    layer, behind = last.operation, after.operation
    if type(layer) is layers.ZeroPadding2D:
        if any(before != end for before, end in layer.padding) or getattr(behind, "padding", "") != "valid":
            return False
        if type(behind) is layers.MaxPooling2D:
            source = last.input_tensors[0]._keras_history.operation
            positive = type(source) in ACTIVATION_LAYERS and activation_of(source) in (F.relu, F.relu6)
            # torch pads by half a window at most
            return positive and all(2 * n <= size for (n, _), size in zip(layer.padding, behind.pool_size, strict=True))
        return type(behind) in CONVOLUTIONS
    if activation_of(layer) is not None:
        return False
    if fold and type(layer) in CONVOLUTIONS and type(behind) is layers.BatchNormalization:
        return behind.axis in (-1, len(last.outputs[0].shape) - 1) and not behind.renorm
    takes = type(layer) in (*CONVOLUTIONS, *MERGES, layers.BatchNormalization, layers.Dense, QuantizedDense)
    return takes and type(behind) in ACTIVATION_LAYERS and activation_of(behind) in ELEMENTWISE
