"""Store the weights of a float32 TFLite file in 16 or 8 bits; input, output and arithmetic stay float32.

A DEQUANTIZE operator after each weight converts it back to float32, which the runtime does once, when it loads the
file. The converter's own float16 mode is not used because it rounds every constant of the graph. The floor of a
logarithm (1e-10) becomes 0 and silence becomes NaN; the front-end's Fourier matrix keeps 11 bits, which raises the
noise floor to about -66 dB and changes features by up to 0.15 standard deviations (measured). Here only kernels and
matrices of the network are rounded, before a front-end is joined.

The 8-bit form is for files that no converter of this package has written, such as encoders of other projects: each
output channel of a convolution or dense layer has a scale of its own, without a zero point.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.encoders.tflite_graph import empty_unused_buffers, operator_names, read_model, write_model

MIN_ELEMENTS = 256  # smaller constants (biases, floors, scales) stay float32
# operators whose weights are stored in 8 bits -> axis of the output channels of their second input
CHANNEL_AXES = {"CONV_2D": 0, "TRANSPOSE_CONV": 0, "FULLY_CONNECTED": 0, "DEPTHWISE_CONV_2D": 3}
_SMALLEST_SCALE = 1e-30  # of a channel whose weights are all 0


@dataclass(frozen=True)
class _Stored:
    """A weight in fewer bits: type (a name of the schema), its bytes, and for 8 bits the scales and their axis."""

    type: str
    data: bytes
    scales: np.ndarray | None = None
    axis: int = 0


def store_as_float16(source: Path, target: Path) -> int:
    """Write a copy of `source` with its weights in float16.

    Args:
        source: A float32 TFLite file of the network without front-end.
        target: The file to write.

    Returns:
        Number of weights (tensors) that are now float16.
    """
    # the first version of the operator that reads float16
    return _store(source, target, lambda value, readers: _in_float16(value), version=3)


def store_as_int8(source: Path, target: Path) -> int:
    """Write a copy of `source` with the weights of its convolutions and dense layers in 8 bits.

    Args:
        source: A float32 TFLite file of the network without front-end.
        target: The file to write.

    Returns:
        Number of weights (tensors) that are now in 8 bits.
    """
    # the first version of the operator that reads a scale for each channel
    return _store(source, target, _in_int8, version=5)


def _in_float16(value: np.ndarray) -> _Stored | None:
    fits = np.abs(value).max() < np.finfo(np.float16).max  # also false for NaN
    return _Stored("FLOAT16", value.astype(np.float16).tobytes()) if fits else None


def _in_int8(value: np.ndarray, readers: set[tuple[str, int]]) -> _Stored | None:
    axes = {CHANNEL_AXES[name] if place == 1 and name in CHANNEL_AXES else None for name, place in readers}
    axis = axes.pop() if len(axes) == 1 else None
    if axis is None or axis >= value.ndim or not np.isfinite(value).all():
        return None
    others = tuple(i for i in range(value.ndim) if i != axis)
    scales = np.maximum(np.abs(value).max(axis=others, keepdims=True) / 127, _SMALLEST_SCALE)
    return _Stored("INT8", np.round(value / scales).astype(np.int8).tobytes(), scales.ravel().astype(np.float32), axis)


def _store(
    source: Path, target: Path, encode: Callable[[np.ndarray, set[tuple[str, int]]], _Stored | None], *, version: int
) -> int:
    """Write a copy of a file in which `encode` chooses how each weight is stored; the number of weights stored so.

    `encode` takes the values of a weight and the operators that read it, each with the place among their inputs.
    """
    from ai_edge_litert import schema_py_generated as fb

    model = read_model(source)
    names = operator_names(model)
    opcode = len(model.operatorCodes)
    code = int(fb.BuiltinOperator.DEQUANTIZE)
    model.operatorCodes.append(fb.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=version))
    buffers: dict[tuple[int, int], int] = {}  # float32 buffer and axis of its channels -> the buffer in fewer bits
    n_stored = 0
    for graph in model.subgraphs:
        ends = {int(i) for i in [*graph.inputs, *graph.outputs]}
        readers: dict[int, set[tuple[str, int]]] = {}
        for operator in graph.operators:
            for place, index in enumerate(operator.inputs):
                readers.setdefault(int(index), set()).add((names[operator.opcodeIndex], place))
        new = []
        for index in range(len(graph.tensors)):
            tensor = graph.tensors[index]
            value = _constant(model, tensor)
            stored = None if value is None or index in ends else encode(value, readers.get(index, set()))
            if stored is None:
                continue
            if (key := (int(tensor.buffer), stored.axis)) not in buffers:
                buffers[key] = len(model.buffers)
                model.buffers.append(fb.BufferT(data=np.frombuffer(stored.data, np.uint8)))
            short = fb.TensorT(
                shape=tensor.shape,
                type=int(getattr(fb.TensorType, stored.type)),
                buffer=buffers[key],
                name=bytes(tensor.name or b"") + f"_{stored.type.lower()}".encode(),
                hasRank=tensor.hasRank,
            )
            if stored.scales is not None:
                short.quantization = fb.QuantizationParametersT(
                    scale=stored.scales,
                    zeroPoint=np.zeros(len(stored.scales), np.int64),
                    quantizedDimension=stored.axis,
                )
            tensor.buffer = 0  # the empty buffer: the tensor is now computed
            new.append(fb.OperatorT(opcodeIndex=opcode, inputs=[len(graph.tensors)], outputs=[index]))
            new[-1].builtinOptionsType = int(fb.BuiltinOptions.DequantizeOptions)
            new[-1].builtinOptions = fb.DequantizeOptionsT()
            graph.tensors.append(short)
        graph.operators = new + list(graph.operators)
        n_stored += len(new)
    empty_unused_buffers(model)
    write_model(model, target)
    return n_stored


def _constant(model: Any, tensor: Any) -> np.ndarray | None:
    """The values of a float32 constant of two or more dimensions and MIN_ELEMENTS or more numbers, else None."""
    if tensor.type != 0 or tensor.shape is None or len(tensor.shape) < 2 or np.prod(tensor.shape) < MIN_ELEMENTS:
        return None
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0:
        return None
    return np.asarray(data, np.uint8).view(np.float32).reshape(tensor.shape)
