"""Store the weights of a float32 TFLite file in float16: half the size, float32 input, output and arithmetic.

The converter's own float16 mode is not used because it rounds every constant of the graph. The floor of a logarithm
(1e-10) becomes 0 and silence becomes NaN; the front-end's Fourier matrix keeps 11 bits, which raises the noise floor to
about -66 dB and changes features by up to 0.15 standard deviations (measured). Here only kernels and matrices of the
network are rounded, before a front-end is joined; a DEQUANTIZE operator after each converts it back to float32, which
the runtime does once, when it loads the file.
"""

from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.encoders.tflite_graph import read_model, write_model

MIN_ELEMENTS = 256  # smaller constants (biases, floors, scales) stay float32
_DEQUANTIZE_VERSION = 3  # the first version of the operator that reads float16


def store_as_float16(source: Path, target: Path) -> int:
    """Write a copy of `source` with its weights in float16.

    Args:
        source: A float32 TFLite file of the network without front-end.
        target: The file to write.

    Returns:
        Number of weights (tensors) that are now float16.
    """
    from ai_edge_litert import schema_py_generated as fb

    model = read_model(source)
    opcode = len(model.operatorCodes)
    code = int(fb.BuiltinOperator.DEQUANTIZE)
    model.operatorCodes.append(
        fb.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=_DEQUANTIZE_VERSION)
    )
    halves: dict[int, int] = {}  # float32 buffer -> its float16 buffer
    n_stored = 0
    for graph in model.subgraphs:
        ends = {int(i) for i in [*graph.inputs, *graph.outputs]}
        new = []
        for index in range(len(graph.tensors)):
            tensor = graph.tensors[index]
            value = _constant(model, tensor)
            if value is None or index in ends or not _fits(value):
                continue
            if tensor.buffer not in halves:
                halves[tensor.buffer] = len(model.buffers)
                half = value.astype(np.float16)
                model.buffers.append(fb.BufferT(data=np.frombuffer(half.tobytes(), np.uint8)))
            stored = fb.TensorT(
                shape=tensor.shape,
                type=int(fb.TensorType.FLOAT16),
                buffer=halves[tensor.buffer],
                name=bytes(tensor.name or b"") + b"_float16",
                hasRank=tensor.hasRank,
            )
            tensor.buffer = 0  # the empty buffer: the tensor is now computed
            new.append(fb.OperatorT(opcodeIndex=opcode, inputs=[len(graph.tensors)], outputs=[index]))
            new[-1].builtinOptionsType = int(fb.BuiltinOptions.DequantizeOptions)
            new[-1].builtinOptions = fb.DequantizeOptionsT()
            graph.tensors.append(stored)
        graph.operators = new + list(graph.operators)
        n_stored += len(new)
    _drop_unused(model)
    write_model(model, target)
    return n_stored


def _constant(model: Any, tensor: Any) -> np.ndarray | None:
    """The values of a float32 constant of two or more dimensions and MIN_ELEMENTS or more numbers, else None."""
    if tensor.type != 0 or tensor.shape is None or len(tensor.shape) < 2 or np.prod(tensor.shape) < MIN_ELEMENTS:
        return None
    data = model.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else np.asarray(data, np.uint8).view(np.float32)


def _fits(value: np.ndarray) -> bool:
    return bool(np.abs(value).max() < np.finfo(np.float16).max)  # also false for NaN


def _drop_unused(model: Any) -> None:
    used = {0} | {int(t.buffer) for graph in model.subgraphs for t in graph.tensors}
    used |= {int(m.buffer) for m in model.metadata or ()} | {int(b) for b in model.metadataBuffer or ()}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None
