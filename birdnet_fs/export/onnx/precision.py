"""ONNX graphs in lower precision, and the joining of their parts.

Source: onnxruntime's quantization tools (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html)
for 8 bits. Only the network is converted: the front-end's floors and Fourier matrices cannot be stored in 16 bits
(tflite/weights.py describes the effect), even less in 8.

Activations are unsigned, which x86 multiplies fastest (EfficientNetV2-B0 on one core of an AVX-512 server: 12 ms,
signed 37 ms, float32 20 ms), and weights use 7 of the 8 bits: x86 without VNNI adds two products in 16 bits and
saturates silently (https://docs.openvino.ai/latest/pot_saturation_issue.html), so that a file verified here would be
wrong there. The lost bit increases the error by a sixth to a third (three networks measured).
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.export.tflite.weights import MIN_ELEMENTS

ROUNDED = {  # operators whose weights onnxruntime quantizes
    "dynamic": ("MatMul", "Gemm", "LSTM"),  # dynamic convolutions are slower than those in float32
    "int8": ("Conv", "MatMul", "Gemm"),
}
FLOOR_ULP = 4  # units in the last place above the logarithm of the floor: 3e-5 dB at 1e-10
MIN_SHARE = 0.5  # smallest share of the weights in those operators; below, too little is saved


def convert_precision(network: Any, precision: str, features: Callable[[], np.ndarray]) -> Any:
    """Convert a network to another precision.

    Args:
        network: The `onnx.ModelProto`, float32; it is not changed.
        precision: "fp32"; "fp16": weights stored in float16, arithmetic in float32; "dynamic": weights of matrix
            products in 8 bits; "int8": weights and activations in 8 bits.
        features: Returns the calibration features for int8, float32 [n, ...] as the network reads them.

    Returns:
        A new `onnx.ModelProto`; input and outputs are float32.

    Raises:
        UserError: Too few weights of this network would be quantized.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    if precision == "fp32":
        return copy
    if precision == "fp16":
        store_as_float16(copy)
        return copy
    share = weight_share(network, ROUNDED[precision])
    if share < MIN_SHARE:
        others = sorted({node.op_type for node in network.graph.node} & {"Conv", "LSTM", "GRU"} - {*ROUNDED[precision]})
        raise UserError(
            f"The precision {precision!r} of onnxruntime quantizes the weights of {', '.join(ROUNDED[precision])}, "
            f"which hold {share:.0%} of this network's (the others: {', '.join(others) or 'smaller ones'}); use "
            f"{'int8' if 'Conv' in others else 'dynamic' if 'LSTM' in others else 'fp16'} instead."
        )
    return _dynamic(copy) if precision == "dynamic" else _static(copy, features())


def append_activation(network: Any, activation: str) -> None:
    """Append a float32 "sigmoid" or "softmax" to the first output of a model in place; the output keeps its name."""
    from onnx import helper

    inner, name = _open_end(network.graph)
    options: dict[str, Any] = {"axis": -1} if activation == "softmax" else {}
    network.graph.node.append(helper.make_node(activation.capitalize(), [inner], [name], name="activation", **options))


def append_output(network: Any, output: Any) -> None:
    """Append a model of one input and one output to the first output of a model in place; the output keeps its name.

    Args:
        network: An `onnx.ModelProto`.
        output: Another, whose operators mean the same in the operator set of the first.
    """
    from onnx import compose

    behind = compose.add_prefix(output, "output/").graph
    inner, name = _open_end(network.graph)
    _rename(behind, behind.input[0].name, inner)
    _rename(behind, behind.output[0].name, name)
    network.graph.node.extend(behind.node)
    network.graph.initializer.extend(behind.initializer)


def _open_end(graph: Any) -> tuple[str, str]:
    """The tensor of the first output under another name, and the name of the output, which no node gives any more."""
    name, inner = graph.output[0].name, "logits"
    _rename(graph, name, inner)
    return inner, name


def _rename(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for i, found in enumerate(names):
                if found == old:
                    names[i] = new


def join_models(first: Any, second: Any, prefix: str, *, keep_input: bool = True) -> Any:
    """Join two models: the only output of the first becomes the only input of the second.

    Args:
        first: An `onnx.ModelProto`.
        second: Another, of the same operator sets.
        prefix: Put before the names of the first, which may occur in the second as well.
        keep_input: Whether the input of the first keeps its name. Default: True.

    Returns:
        A new `onnx.ModelProto`.

    Raises:
        ValueError: The operator sets differ.
    """
    from onnx import compose, helper

    front = compose.add_prefix(first, prefix, rename_inputs=not keep_input)
    given, joined = front.graph.output[0].name, second.graph.input[0].name
    names = [output.name for output in second.graph.output]
    # the quantization tools use newer operator sets and formats for their operators
    front.ir_version = second.ir_version = max(front.ir_version, second.ir_version)
    sets = {(s.domain, s.version) for s in (*front.opset_import, *second.opset_import)}
    if len({domain for domain, _ in sets}) < len(sets):
        raise ValueError(f"both parts must use the same operator sets. Received: {sorted(sets)}")
    whole = compose.merge_models(front, second, io_map=[(given, joined)], outputs=names)
    del whole.opset_import[:]
    whole.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in sorted(sets))
    whole.producer_name, whole.producer_version = second.producer_name, second.producer_version
    return whole


def raise_log_floor(front_end: Any, amin: float) -> int:
    """Limit logarithms of energies, in place, to a constant just above the logarithm of the floor.

    onnxruntime's Log of one number differs in the last digit between its vector loop and the remainder of the array.
    For silence, where all values are at the floor, min_max would stretch that to full range (measured: 0 to 0.987).

    Args:
        front_end: An `onnx.ModelProto`.
        amin: Floor of the energies in the front-end, above 0.

    Returns:
        Number of logarithms in the graph.
    """
    from onnx import helper, numpy_helper

    graph, nodes = front_end.graph, []
    floor = np.log(np.float32(amin))
    n_found = 0
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "Log":
            n_found += 1
            (given,), name = node.output, f"{node.output[0]}_above"
            node.output[0] = name
            nodes.append(helper.make_node("Max", [name, "log_floor"], [given], name=name))
    if n_found:
        graph.initializer.append(numpy_helper.from_array(floor + FLOOR_ULP * np.spacing(np.abs(floor)), "log_floor"))
    del graph.node[:]
    graph.node.extend(nodes)
    return n_found


# ---------------------------------------------------------------- 16 bits


def store_as_float16(network: Any) -> int:
    """Store the weights of a model in float16, in place; a Cast converts them back when the runtime loads the file.

    Args:
        network: An `onnx.ModelProto`, float32.

    Returns:
        Number of weights (tensors) that are now float16.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = network.graph, []
    for stored in graph.initializer:
        if stored.data_type != TensorProto.FLOAT or len(stored.dims) < 2 or np.prod(stored.dims) < MIN_ELEMENTS:
            continue
        value = numpy_helper.to_array(stored)
        if not np.abs(value).max() < np.finfo(np.float16).max:  # also for NaN
            continue
        name = stored.name
        stored.CopyFrom(numpy_helper.from_array(value.astype(np.float16), f"{name}_float16"))
        casts.append(helper.make_node("Cast", [stored.name], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return len(casts)


# ---------------------------------------------------------------- 8 bits


def _static(network: Any, features: np.ndarray) -> Any:
    """Quantize weights and activations: QuantizeLinear and DequantizeLinear around every operator."""
    import onnx
    from onnxruntime import quantization

    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "network.onnx", Path(folder) / "int8.onnx"
        _prepare(network, source)
        quantization.quantize_static(
            source,
            target,
            _reader(network.graph.input[0].name, features, _batch_of(network)),
            activation_type=quantization.QuantType.QUInt8,
            **_weights(quantization),
        )
        return onnx.load(target)


def _dynamic(network: Any) -> Any:
    """Quantize weights of matrix products; their activations are quantized with the range of each call."""
    import onnx
    from onnxruntime import quantization

    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "network.onnx", Path(folder) / "dynamic.onnx"
        del network.graph.value_info[:]  # these shapes are wrong after the tool has transposed matrices
        onnx.save(network, source)
        products = list(ROUNDED["dynamic"])
        quantization.quantize_dynamic(source, target, op_types_to_quantize=products, **_weights(quantization))
        return onnx.load(target)


def _weights(quantization: Any) -> dict[str, Any]:
    return {"per_channel": True, "reduce_range": True, "weight_type": quantization.QuantType.QInt8}


def weight_share(network: Any, operators: Sequence[str]) -> float:
    """The share of a model's weights, 0 to 1, that operators of the given types read."""
    sizes = {stored.name: int(np.prod(stored.dims)) for stored in network.graph.initializer}
    found = {name for node in network.graph.node if node.op_type in operators for name in node.input if name in sizes}
    return sum(sizes[name] for name in found) / max(1, sum(sizes.values()))


def _prepare(network: Any, path: Path) -> None:
    """Write a model with inferred shapes, as the quantization tools require."""
    import onnx
    from onnxruntime.quantization import shape_inference

    onnx.save(network, path)
    shape_inference.quant_pre_process(path, path, skip_symbolic_shape=True)


def _batch_of(network: Any) -> int:
    """The batch of the input; 1 where it is open."""
    return network.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1


def _reader(name: str, features: np.ndarray, batch: int) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Calibration batches; the last is filled by repeating segments."""

        def __init__(self) -> None:
            self.batches = self._read()

        def _read(self) -> Iterator[dict[str, np.ndarray]]:
            for start in range(0, len(features), batch):
                rows = np.take(features, range(start, start + batch), axis=0, mode="wrap")
                yield {name: np.ascontiguousarray(rows, np.float32)}

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    return Reader()
