"""Rules that lower layers with 8-bit weights and activations (quantization/fake_quant.py).

With `lower(fold=True)` kernels are rounded once, and ranges are constants, as scale and zero point. Activations are
rounded by elementwise operations whose result is bit for bit that of torch.fake_quantize_per_tensor_affine, which is
not vectorized on a CPU: it takes twice as long in training and eleven times in inference (for 1.2 million values).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from keras import layers
from torch import Tensor

from birdnet_fs.models.lowering.calls import LayerContext, LoweredCall, Rule, Weights
from birdnet_fs.models.lowering.rules_conv import RULES as MAPS
from birdnet_fs.models.lowering.rules_layers import RULES as PLAIN
from birdnet_fs.models.quantization.fake_quant import (
    LEARN,
    MEASURE,
    N_STEPS,
    FakeQuantize,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    RoundedToGrid,
    fake_quantize_kernel,
    scale_and_zero,
)


def _kernel_rounded(rule: Rule, axis: int | None) -> Rule:
    """A rule that rounds the kernel [n_out, ...] of another rule's call."""

    def with_rounded(site: LayerContext) -> LoweredCall | None:
        call = rule(site)
        if call is None:
            return None
        given: Callable[[], Weights] = call.weights

        def weights() -> Weights:
            kernel, bias = given()
            return fake_quantize_kernel(kernel, axis=axis), bias

        return replace(call, weights=weights)

    return with_rounded


def rounded(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Round a tensor to 8 bits with a straight-through gradient, which is 0 where values were clipped.

    Args:
        x: float32 of any shape [...].
        scale: Size of one step, a scalar tensor.
        zero: Zero point, a scalar tensor, 0..255.

    Returns:
        float32, of the shape of `x`.
    """
    return _Rounded.apply(x, scale, zero) if x.requires_grad and torch.is_grad_enabled() else _steps(x, scale, zero)[0]


def _steps(x: Tensor, scale: Tensor, zero: Tensor, inside: bool = False) -> tuple[Tensor, Tensor | None]:
    steps = x.mul(scale.reciprocal()).round_().add_(zero)
    kept = (steps >= 0).logical_and_(steps <= N_STEPS) if inside else None
    return steps.clamp_(0, N_STEPS).sub_(zero).mul_(scale), kept


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        y, kept = _steps(x, scale, zero, inside=True)
        ctx.save_for_backward(kept)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * ctx.saved_tensors[0], None, None


def _fake_quantize(site: LayerContext) -> LoweredCall:
    layer = site.layer
    grid = layer.grid() if isinstance(layer, RoundedToGrid) else layer
    learns = grid is layer and grid.bounds is None

    def run(training: bool, weights: Weights, x: Tensor) -> Tensor:
        scale, zero = weights
        if learns and (grid.phase == MEASURE or (grid.phase == LEARN and training)):
            with torch.no_grad():
                grid.update(x)
            scale, zero = scale_and_zero(*grid.range())
        return x if grid.phase == MEASURE else rounded(x, scale, zero.to(x.dtype))

    return LoweredCall(run, lambda: scale_and_zero(*grid.range()), ("scale", "zero"), site.channels_first)


RULES: dict[Any, Rule] = {
    FakeQuantize: _fake_quantize,
    RoundedToGrid: _fake_quantize,
    QuantizedConv2D: _kernel_rounded(MAPS[layers.Conv2D], 0),
    QuantizedDepthwiseConv2D: _kernel_rounded(MAPS[layers.DepthwiseConv2D], 0),
    QuantizedDense: _kernel_rounded(PLAIN[layers.Dense], None),
}
