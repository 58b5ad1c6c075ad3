"""Rules that lower attention and einsum layers; MultiHeadAttention becomes scaled_dot_product_attention."""

import torch
import torch.nn.functional as F
from keras import layers
from torch import Tensor

from birdnet_fs.models.lowering.calls import (
    ELEMENTWISE,
    LayerContext,
    LoweredCall,
    Rule,
    Weights,
    activation_of,
    is_changed,
    value_of,
)

NAMES = ("query", "query_bias", "key", "key_bias", "value", "value_bias", "output", "output_bias")


def _attention(site: LayerContext) -> LoweredCall | None:
    """Attention from [batch, n, width] to [batch, m, width], without a mask."""
    layer = site.layer
    parts = (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense)
    plain = not (layer._use_gate or layer._sliding_window or any(is_changed(part) for part in (layer, *parts)))
    if not plain or layer._attention_axes != (1,) or len(layer.output_dense.kernel.shape) != 3:
        return None
    if any(len(shape) != 3 or shape[1] is None for shape in site.shapes):
        return None
    kernels = [part.kernel.value for part in parts]
    biases = [value_of(part.bias) for part in parts]
    n_heads, rate, scale = layer.num_heads, layer.dropout, layer.key_dim**-0.5
    n_query, n_value = site.shapes[0][1], site.shapes[1][1]
    shapes = [  # of query, key and value; -1 is the batch, which is dynamic in exported files
        (-1, n_query, n_heads, layer.key_dim),
        (-1, n_value, n_heads, layer.key_dim),
        (-1, n_value, n_heads, layer.value_dim),
    ]
    joined = (-1, n_query, n_heads * layer.value_dim)

    def weights() -> Weights:
        found: list[Tensor | None] = []
        for kernel, bias in zip(kernels[:3], biases[:3], strict=True):  # [width, n_heads, n]
            found += [kernel.flatten(1).t(), None if bias is None else bias.flatten()]
        return (*found, kernels[3].flatten(0, 1).t(), biases[3])  # [n_heads, n, width]

    def run(training: bool, weights: Weights, query: Tensor, value: Tensor, key: Tensor | None = None) -> Tensor:
        rows = (query, value if key is None else key, value)
        q, k, v = (
            F.linear(x, weights[2 * i], weights[2 * i + 1]).reshape(shape).transpose(1, 2)
            for i, (x, shape) in enumerate(zip(rows, shapes, strict=True))
        )
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=rate if training else 0.0, scale=scale)
        return F.linear(y.transpose(1, 2).reshape(joined), weights[6], weights[7])

    return LoweredCall(run, weights, NAMES)


def _einsum(site: LayerContext) -> LoweredCall | None:
    layer = site.layer
    own = activation_of(layer)
    if is_changed(layer) or (own is not None and own not in ELEMENTWISE):
        return None
    values, equation = (layer.kernel.value, value_of(layer.bias)), layer.equation

    def run(training: bool, weights: Weights, x: Tensor) -> Tensor:
        kernel, bias = weights
        y = torch.einsum(equation, x, kernel)
        y = y if bias is None else y + bias
        return y if own is None else own(y)

    return LoweredCall(run, lambda: values, ("weight", "bias"))


RULES: dict[type, Rule] = {layers.MultiHeadAttention: _attention, layers.EinsumDense: _einsum}
