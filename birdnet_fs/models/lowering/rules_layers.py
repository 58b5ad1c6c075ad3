"""Rules that lower simple Keras layers to torch calls; RULES maps the type of a layer to a function.

Rules for convolutions and pooling are in rules_conv.py, recurrent layers in rules_recurrent.py, attention in
rules_attention.py, layers with 8-bit weights in rules_quantized.py; calls.py has their common parts.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from keras import layers
from torch import Tensor

from birdnet_fs.models.blocks import LayerScale
from birdnet_fs.models.lowering.calls import (
    ELEMENTWISE,
    LayerContext,
    LoweredCall,
    Rule,
    Weights,
    activation_behind,
    activation_of,
    is_changed,
    value_of,
)

# ---------------------------------------------------------------- layers with weights


def _dense(site: LayerContext) -> LoweredCall | None:
    layer = site.layer
    if is_changed(layer):
        return None
    kernel, bias = layer.kernel.value, value_of(layer.bias)
    activation = activation_behind(site, activation_of(layer))

    def run(training: bool, weights: Weights, x: Tensor) -> Tensor:
        y = F.linear(x, *weights)
        return y if activation is None else activation(y)

    return LoweredCall(run, lambda: (kernel.t(), bias), ("weight", "bias"))


def _layer_norm(site: LayerContext) -> LoweredCall | None:
    """LayerNormalization over trailing axes."""
    layer, rank = site.layer, len(site.shapes[0])
    axes = sorted(axis % rank for axis in (layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]))
    if axes != list(range(axes[0], rank)) or layer.rms_scaling:
        return None
    shape, epsilon = tuple(site.shapes[0][axes[0] :]), layer.epsilon
    values = (value_of(layer.gamma), value_of(layer.beta))

    def run(training: bool, weights: Weights, x: Tensor) -> Tensor:
        gamma, beta = weights
        return F.layer_norm(x, shape, gamma, beta, epsilon)

    return LoweredCall(run, lambda: values, ("gamma", "beta"))


def _layer_scale(site: LayerContext) -> LoweredCall:
    gamma, ones = site.layer.gamma.value, [1] * (len(site.shapes[0]) - 2)
    return LoweredCall(
        lambda training, weights, x: x * weights[0],
        lambda: (gamma.reshape(-1, *ones) if site.channels_first else gamma,),
        ("gamma",),
        site.channels_first,
    )


# ---------------------------------------------------------------- random layers


def _dropout(site: LayerContext) -> LoweredCall:
    rate, shape = site.layer.rate, site.layer.noise_shape
    if shape is None:
        return LoweredCall(
            lambda training, weights, x: F.dropout(x, rate, training), channels_first=site.channels_first
        )
    return _drop_shared(rate, shape, site.channels_first)


def _spatial_dropout(site: LayerContext) -> LoweredCall | None:
    if getattr(site.layer, "data_format", "channels_last") != "channels_last":
        return None
    shape = (None, *[1] * (len(site.shapes[0]) - 2), None)
    return _drop_shared(site.layer.rate, shape, site.channels_first)


def _drop_shared(rate: float, shape: Sequence[int | None], channels_first: bool) -> LoweredCall:
    """Dropout with one random value along an axis of size 1 in `shape` (None = the size of the axis in x)."""
    if channels_first:
        shape = (shape[0], shape[-1], *shape[1:-1])

    def run(training: bool, weights: Weights, x: Tensor) -> Tensor:
        if not training or rate <= 0:
            return x
        keep = x.new_empty([n if m is None else m for n, m in zip(x.shape, shape, strict=True)])
        return x * keep.bernoulli_(1.0 - rate).div_(1.0 - rate)

    return LoweredCall(run, channels_first=channels_first)


def _noise(site: LayerContext) -> LoweredCall:
    deviation = site.layer.stddev
    return LoweredCall(
        lambda training, weights, x: x + torch.randn_like(x) * deviation if training else x,
        channels_first=site.channels_first,
    )


# ---------------------------------------------------------------- layers without weights


def _activation_layer(site: LayerContext) -> LoweredCall:
    function = activation_of(site.layer)
    if function is None:
        return LoweredCall(lambda training, weights, x: x, channels_first=site.channels_first)
    return LoweredCall(
        lambda training, weights, x: function(x), channels_first=site.channels_first and function in ELEMENTWISE
    )


def _global_pool(site: LayerContext) -> LoweredCall | None:
    layer, n_axes = site.layer, len(site.shapes[0]) - 2
    if layer.data_format != "channels_last":
        return None
    axes, keep = tuple(range(2, 2 + n_axes) if site.channels_first else range(1, 1 + n_axes)), layer.keepdims
    if isinstance(layer, (layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D)):
        return LoweredCall(lambda training, weights, x: x.mean(axes, keepdim=keep), channels_first=site.channels_first)
    return LoweredCall(lambda training, weights, x: x.amax(axes, keepdim=keep), channels_first=site.channels_first)


def sides(site: LayerContext) -> list[int] | None:
    """Padding or cropping of a layer as F.pad expects it: (before, after) per axis, flat, the last axis first."""
    if getattr(site.layer, "data_format", "channels_last") != "channels_last":
        return None
    given = getattr(site.layer, "padding", None) or site.layer.cropping
    pairs = [given] if isinstance(given[0], int) else list(given)
    return [n for pair in reversed(pairs) for n in pair]


def _cropping(site: LayerContext) -> LoweredCall | None:
    cut = sides(site)
    if cut is None:
        return None
    pairs = list(zip(cut[::2], cut[1::2], strict=True))[::-1]
    inside = tuple(slice(before, -after if after else None) for before, after in pairs)
    key = (slice(None), slice(None), *inside) if site.channels_first else (slice(None), *inside)
    return LoweredCall(lambda training, weights, x: x[key], channels_first=site.channels_first)


def _rescaling(site: LayerContext) -> LoweredCall | None:
    scale, offset = site.layer.scale, site.layer.offset
    if not isinstance(scale, (int, float)) or not isinstance(offset, (int, float)):
        return None
    return LoweredCall(lambda training, weights, x: x * scale + offset, channels_first=site.channels_first)


def _reshape(site: LayerContext) -> LoweredCall:
    layer = site.layer
    shape = layer.compute_output_shape(site.shapes[0])[1:]
    if None in shape:
        return LoweredCall(lambda training, weights, x: x.reshape(x.shape[0], *layer.target_shape))
    return LoweredCall(lambda training, weights, x: x.reshape(-1, *shape))


def _flatten(site: LayerContext) -> LoweredCall | None:
    return LoweredCall(lambda training, weights, x: x.flatten(1)) if site.layer.data_format == "channels_last" else None


def _merge(operation: Callable[[Tensor, Tensor], Tensor]) -> Rule:
    """Rule of a merge layer for tensors of equal rank; Keras broadcasts others by rules of its own."""

    def rule(site: LayerContext) -> LoweredCall | None:
        if len({len(shape) for shape in site.shapes}) != 1:
            return None
        activation = activation_behind(site)

        def run(training: bool, weights: Weights, first: Tensor, *others: Tensor) -> Tensor:
            for x in others:
                first = operation(first, x)
            return first if activation is None else activation(first)

        return LoweredCall(run, channels_first=site.channels_first)

    return rule


def _average(site: LayerContext) -> LoweredCall | None:
    total, n = _merge(torch.add)(site), len(site.shapes)
    if total is None:
        return None
    add = total.run
    return LoweredCall(lambda *given: add(*given) / n, channels_first=site.channels_first)


def _concatenate(site: LayerContext) -> LoweredCall:
    rank = len(site.shapes[0])
    axis = site.layer.axis % rank
    if site.channels_first:
        axis = 1 if axis == rank - 1 else axis + (axis > 0)
    return LoweredCall(lambda training, weights, *xs: torch.cat(xs, dim=axis), channels_first=site.channels_first)


def _softmax_layer(site: LayerContext) -> LoweredCall | None:
    axis = site.layer.axis
    return LoweredCall(lambda training, weights, x: F.softmax(x, axis)) if isinstance(axis, int) else None


def _unit_length(site: LayerContext) -> LoweredCall | None:
    axis = site.layer.axis
    if not isinstance(axis, int):
        return None
    return LoweredCall(lambda training, weights, x: F.normalize(x, dim=axis, eps=1e-12))


def _permute(site: LayerContext) -> LoweredCall:
    dims = (0, *site.layer.dims)
    return LoweredCall(lambda training, weights, x: x.permute(dims))


RULES: dict[type, Rule] = {
    layers.Dense: _dense,
    layers.LayerNormalization: _layer_norm,
    LayerScale: _layer_scale,
    layers.Activation: _activation_layer,
    layers.ReLU: _activation_layer,
    layers.Softmax: _softmax_layer,
    layers.UnitNormalization: _unit_length,
    layers.Dropout: _dropout,
    layers.SpatialDropout1D: _spatial_dropout,
    layers.SpatialDropout2D: _spatial_dropout,
    layers.GaussianNoise: _noise,
    layers.GlobalAveragePooling1D: _global_pool,
    layers.GlobalAveragePooling2D: _global_pool,
    layers.GlobalMaxPooling1D: _global_pool,
    layers.GlobalMaxPooling2D: _global_pool,
    layers.Cropping1D: _cropping,
    layers.Cropping2D: _cropping,
    layers.Rescaling: _rescaling,
    layers.Reshape: _reshape,
    layers.Flatten: _flatten,
    layers.Permute: _permute,
    layers.Add: _merge(torch.add),
    layers.Multiply: _merge(torch.mul),
    layers.Subtract: _merge(torch.sub),
    layers.Maximum: _merge(torch.maximum),
    layers.Minimum: _merge(torch.minimum),
    layers.Average: _average,
    layers.Concatenate: _concatenate,
}
