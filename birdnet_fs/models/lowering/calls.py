"""Parts that all lowering rules share: the layer in its graph, the torch call, activations, memory layout.

The inputs and outputs of a call are in Keras' order of axes, or channels first: a permuted view of [batch, height,
width, channels], which is torch's memory format channels_last, so that convolutions and pooling need no copy and
consecutive ones no permutation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from keras import activations, layers
from torch import Tensor

Weights = tuple[Any, ...]  # tensors, None for a missing bias
Shape = tuple[Any, ...]  # None for an unknown length


@dataclass(frozen=True)
class LayerContext:
    """A layer in the graph.

    Attributes:
        layer: The layer.
        shapes: Shapes of its inputs in Keras' order of axes.
        behind: The following layers that are merged into its call, in order.
        channels_first: Whether an input is available channels first; calls that support both orders then use it.
    """

    layer: Any
    shapes: tuple[Shape, ...]
    behind: tuple[Any, ...] = ()
    channels_first: bool = False


@dataclass(frozen=True)
class LoweredCall:
    """The torch call of a layer.

    Attributes:
        run: Function (training, weights, *inputs) -> output.
        weights: Function that returns the weights for `run`: views of the layer's Parameters, to pass gradients on.
        names: Names of the weights in exported files.
        channels_first: Whether inputs and output of `run` with three axes or more are channels first.
        variables: Keras variables that `run` reads directly, instead of `weights`.
    """

    run: Callable[..., Any]
    weights: Callable[[], Weights] = tuple
    names: tuple[str, ...] = ()
    channels_first: bool = False
    variables: tuple[Any, ...] = ()


Rule = Callable[[LayerContext], LoweredCall | None]  # None: the rule does not support the layer's configuration

# ---------------------------------------------------------------- activations


def _softmax(x: Tensor) -> Tensor:
    return F.softmax(x, dim=-1)


ACTIVATIONS: dict[Any, Callable[[Tensor], Tensor] | None] = {
    activations.linear: None,
    activations.relu: F.relu,
    activations.relu6: F.relu6,
    activations.silu: F.silu,
    activations.sigmoid: torch.sigmoid,
    activations.hard_sigmoid: F.hardsigmoid,
    activations.hard_silu: F.hardswish,
    activations.tanh: torch.tanh,
    activations.gelu: F.gelu,
    activations.softplus: F.softplus,
    activations.softmax: _softmax,
}
# independent of the order of axes
ELEMENTWISE = {f for f in ACTIVATIONS.values() if f not in (None, _softmax)}
ACTIVATION_LAYERS = (layers.Activation, layers.ReLU)
MERGES = (layers.Add, layers.Multiply, layers.Subtract)


def activation_of(layer: Any) -> Callable[[Tensor], Tensor] | None:
    """The torch function of a layer's activation [...] -> [...]: None for none, Keras' own if ACTIVATIONS lacks it."""
    if isinstance(layer, layers.ReLU):
        if layer.negative_slope or layer.threshold or layer.max_value not in (None, 6):
            return layer.call
        return F.relu if layer.max_value is None else F.relu6
    function = getattr(layer, "activation", None)
    return None if function is None else ACTIVATIONS.get(function, function)


def _in_place(activation: Callable[[Tensor], Tensor] | None) -> Callable[[Tensor], Tensor] | None:
    """In-place version for a tensor without other readers; ReLU's gradient needs only its output, SiLU's its input."""
    if activation is F.relu:
        return torch.relu_
    if activation is F.silu:
        return lambda x: F.silu(x, inplace=not (x.requires_grad and torch.is_grad_enabled()))
    return activation


def activation_behind(
    site: LayerContext, own: Callable[[Tensor], Tensor] | None = None
) -> Callable[[Tensor], Tensor] | None:
    """The activation to apply to the output of a layer, in place where possible.

    Args:
        site: The layer and the layers merged into its call.
        own: Activation of the layer itself, used if none follows. Default: None.

    Returns:
        A function [...] -> the same shape, or None for no activation.
    """
    for after in site.behind:
        if type(after) in ACTIVATION_LAYERS:
            own = activation_of(after)
    return _in_place(own)


def value_of(variable: Any) -> Tensor | None:
    """The Parameter of a Keras variable, of any shape [...]; None for None."""
    return None if variable is None else variable.value


def restride(parameter: Tensor, to_torch: Sequence[int], back: Sequence[int], memory: torch.memory_format) -> None:
    """Change the memory layout of a Parameter in place; its shape and values stay the same.

    Args:
        parameter: Kernel of a Keras layer, of any shape [...].
        to_torch: Permutation from Keras' order of axes to torch's.
        back: The inverse permutation.
        memory: Memory format of the kernel in torch's order.
    """
    with torch.no_grad():
        stored = parameter.detach().permute(*to_torch).contiguous(memory_format=memory)
        parameter.data = stored.permute(*back)


def as_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast a tensor of any shape [...] unless it has the dtype already, so that traced graphs have no empty casts."""
    return x if x.dtype == dtype else x.to(dtype)


def is_changed(layer: Any) -> bool:
    """Whether the output of a layer depends on more than its kernel and bias: LoRA, or quantization by Keras."""
    return bool(getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None))
