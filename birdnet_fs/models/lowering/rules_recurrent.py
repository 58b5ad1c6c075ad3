"""Rules that lower LSTM and GRU, in one or both directions, to torch's fused kernels.

Keras on torch loops over the frames in Python; torch's kernel is one call (and one LSTM or GRU node in an ONNX file).
The gates of a GRU have another order in Keras, z, r, n, than in torch, r, z, n; those of an LSTM are i, f, c, o in
both.
"""

from typing import Any

import torch
from keras import activations, layers
from torch import Tensor

from birdnet_fs.models.lowering.calls import (
    LayerContext,
    LoweredCall,
    Rule,
    Weights,
    as_dtype,
    is_changed,
    restride,
    value_of,
)

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _fits(layer: Any) -> bool:
    """Whether torch's kernel computes the same; dropout inside a cell of Keras has one mask for all frames."""
    cell = layer.cell
    usual = cell.activation is activations.tanh and cell.recurrent_activation is activations.sigmoid
    plain = not (layer.stateful or layer.return_state or cell.dropout or cell.recurrent_dropout or is_changed(cell))
    return usual and plain and getattr(cell, "reset_after", True)


def _weights(cell: Any) -> Weights:
    """[gates, in], [gates, units] and two biases [gates], views if the order of the gates is that of torch."""
    kernels, bias = [cell.kernel.value, cell.recurrent_kernel.value], value_of(cell.bias)
    if isinstance(cell, layers.GRUCell):
        kernels = [_torch_order(kernel) for kernel in kernels]
        biases = () if bias is None else tuple(_torch_order(bias))
    else:
        biases = () if bias is None else (bias, torch.zeros_like(bias))
    return (*(kernel.t() for kernel in kernels), *biases)


def _torch_order(gates: Tensor) -> Tensor:
    z, r, n = gates.chunk(3, -1)
    return torch.cat((r, z, n), -1)


def _call(cells: tuple[Any, ...], sequences: bool) -> LoweredCall:
    """The call of one cell, or of two cells in both directions with concatenated outputs."""
    is_lstm = isinstance(cells[0], layers.LSTMCell)
    for variable in [v for cell in cells for v in (cell.kernel, cell.recurrent_kernel) if is_lstm]:
        restride(variable.value, (1, 0), (1, 0), torch.contiguous_format)  # otherwise torch copies it in every step
    kernel: Any = torch._VF.lstm if is_lstm else torch._VF.gru
    units, n_directions, has_bias = cells[0].units, len(cells), cells[0].bias is not None

    def run(training: bool, weights: Weights, x: Tensor) -> Tensor:
        # autocast does not cast the states, which must have the dtype of the other arguments
        autocast = torch.is_autocast_enabled(x.device.type)
        x = as_dtype(x, torch.get_autocast_dtype(x.device.type) if autocast else weights[0].dtype)
        start = x.new_zeros(n_directions, x.shape[0], units)
        states = (start, start) if is_lstm else start
        # cuDNN stores the intermediate results of the gradient only with this argument
        train = torch.is_grad_enabled() and (x.requires_grad or weights[0].requires_grad)
        y, last, *_ = kernel(x, states, weights, has_bias, 1, 0.0, train, n_directions == 2, True)
        if sequences:
            return y
        return last[0] if n_directions == 1 else torch.cat((last[0], last[1]), -1)

    names = tuple(f"{name}{end}" for end in ("", "_reverse")[:n_directions] for name in NAMES[: 2 + 2 * has_bias])
    return LoweredCall(run, lambda: tuple(w for cell in cells for w in _weights(cell)), names)


def _one_direction(site: LayerContext) -> LoweredCall | None:
    layer = site.layer
    return _call((layer.cell,), layer.return_sequences) if _fits(layer) and not layer.go_backwards else None


def _both_directions(site: LayerContext) -> LoweredCall | None:
    layer, (there, back) = site.layer, (site.layer.forward_layer, site.layer.backward_layer)
    kinds = {type(there), type(back)}
    if kinds not in ({layers.LSTM}, {layers.GRU}) or layer.merge_mode != "concat" or there.go_backwards:
        return None
    alike = (there.cell.units, there.cell.use_bias) == (back.cell.units, back.cell.use_bias)
    if not (alike and _fits(there) and _fits(back)):
        return None
    return _call((there.cell, back.cell), layer.return_sequences)


RULES: dict[type, Rule] = {
    layers.LSTM: _one_direction,
    layers.GRU: _one_direction,
    layers.Bidirectional: _both_directions,
}
