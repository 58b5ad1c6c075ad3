"""Join and inspect TFLite files (read and written in encoders/tflite_graph.py)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.encoders.tflite_graph import SIGNATURE, operator_names, read_model, tensor_shape, write_model

_RUNTIME_VERSION = b"min_runtime_version"
_CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D"}


def order_outputs(path: Path, names: Sequence[str]) -> None:
    """Sort the outputs of a file in place. Programs read outputs by index, and the converter's order is arbitrary.

    Args:
        path: A TFLite file with one signature.
        names: Names of all outputs in the wanted order.

    Raises:
        ValueError: The signature has other outputs.
    """
    model = read_model(path)
    (signature,) = model.signatureDefs
    found = {bytes(output.name).decode(): output for output in signature.outputs}
    if set(found) != set(names):
        raise ValueError(f"the outputs must be called {', '.join(names)}; they are {', '.join(sorted(found))}")
    signature.outputs = [found[name] for name in names]
    model.subgraphs[0].outputs = [int(output.tensorIndex) for output in signature.outputs]
    write_model(model, path)


def join_models(first: Path, second: Path, path: Path) -> None:
    """Join two files: the first output of `first` becomes the input of `second`.

    Args:
        first: A TFLite file. Its other outputs are kept, after those of `second`.
        second: A TFLite file with one input of the same shape and type. The batch is open in both files or in none.
        path: The file to write, which may be one of the two; its signature has the input of `first`.

    Raises:
        ValueError: Shape or type differ.
    """
    model, after = read_model(first), read_model(second)
    graph, behind = model.subgraphs[0], after.subgraphs[0]
    (bridge, *kept), (given,) = graph.outputs, behind.inputs
    written, read = (
        (tensor_shape(tensor), int(tensor.type)) for tensor in (graph.tensors[bridge], behind.tensors[given])
    )
    if written != read:
        raise ValueError(
            f"{second.name} must read what {first.name} writes. Received: {read} for {written} "
            "(shape, -1 for an open batch; number of the type)"
        )
    n_codes, n_buffers, n_bodies = len(model.operatorCodes), len(model.buffers), len(model.subgraphs) - 1
    n_tensors = len(graph.tensors)

    def moved(index: int) -> int:
        """Index in the joined graph of a tensor of the second one, whose input is dropped; -1 stands for none."""
        if index < 0 or index == given:
            return -1 if index < 0 else int(bridge)
        return int(index) + n_tensors - (index > given)

    for subgraph in after.subgraphs:
        for tensor in subgraph.tensors:
            tensor.buffer += n_buffers
        for operator in subgraph.operators:
            operator.opcodeIndex += n_codes
            _move_bodies(operator, n_bodies)
    for operator in behind.operators:
        for which in ("inputs", "outputs", "intermediates"):
            if getattr(operator, which) is not None:
                setattr(operator, which, [moved(index) for index in getattr(operator, which)])
    taken = {bytes(tensor.name) for tensor in graph.tensors}
    for tensor in behind.tensors:  # some tools identify tensors by name
        tensor.name = bytes(tensor.name) + (b"_behind" if bytes(tensor.name) in taken else b"")
    (signature,), (other,) = model.signatureDefs, after.signatureDefs
    for output in other.outputs:
        output.tensorIndex = moved(output.tensorIndex)
    rest = [output for output in signature.outputs if output.tensorIndex != bridge]
    signature.outputs, signature.signatureKey = [*other.outputs, *rest], SIGNATURE
    graph.outputs = [*(moved(index) for index in behind.outputs), *kept]
    graph.tensors = [*graph.tensors, *behind.tensors[:given], *behind.tensors[given + 1 :]]
    graph.operators = [*graph.operators, *behind.operators]
    model.operatorCodes = [*model.operatorCodes, *after.operatorCodes]
    model.buffers = [*model.buffers, *after.buffers]
    model.subgraphs = [*model.subgraphs, *after.subgraphs[1:]]
    newest = max((_runtime_version(one) for one in (model, after)), key=_as_numbers)
    model.metadata, model.metadataBuffer = None, None  # the converter's notes on each part
    if newest:
        from ai_edge_litert import schema_py_generated as fb

        model.metadata = [fb.MetadataT(name=_RUNTIME_VERSION, buffer=len(model.buffers))]
        model.buffers.append(fb.BufferT(data=np.frombuffer(newest.ljust(16, b"\0"), np.uint8)))
    write_model(model, path)


def operators(path: Path) -> list[str]:
    """Names of all operators of a file, loop bodies included; a custom operator has its own name."""
    return [name for name, _, _ in _every_operator(read_model(path))]


def foreign_operators(path: Path) -> list[str]:
    """Names of all operators outside the builtins (custom ones and TensorFlow's "Flex..."), each once."""
    from ai_edge_litert import schema_py_generated as fb

    return sorted({name for name in operators(path) if not hasattr(fb.BuiltinOperator, name)})


def count_types(path: Path) -> dict[str, int]:
    """Number of tensors of each type in a file, such as {"FLOAT32": 12, "INT8": 40}."""
    from ai_edge_litert import schema_py_generated as fb

    names = {value: name for name, value in vars(fb.TensorType).items() if isinstance(value, int)}
    found = [names[tensor.type] for graph in read_model(path).subgraphs for tensor in graph.tensors]
    return {name: found.count(name) for name in sorted(set(found))}


def wrong_on_tflite_runtime(path: Path) -> list[str]:
    """The convolutions of a file that tflite-runtime 2.14.0 computes wrongly without an error, one phrase each.

    Its default delegate (XNNPACK) is wrong where a convolution with padding "same" has a kernel of 2 or more and a
    larger stride along either axis (kernel 3, stride 4 is wrong; 3 and 3, 1 and 2, and all with "valid" are right).
    """
    from ai_edge_litert import schema_py_generated as fb

    found = []
    for name, operator, graph in _every_operator(read_model(path)):
        if name not in _CONVOLUTIONS or operator.builtinOptions.padding != fb.Padding.SAME:
            continue
        kernel = [int(n) for n in graph.tensors[operator.inputs[1]].shape[1:3]]
        stride = [int(operator.builtinOptions.strideH), int(operator.builtinOptions.strideW)]
        if any(s > k >= 2 for k, s in zip(kernel, stride, strict=True)):
            found.append(f'{name} with padding "same", kernel {kernel} and stride {stride}')
    return found


def _every_operator(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """(name, operator, its subgraph)."""
    names = operator_names(model)
    for graph in model.subgraphs:
        for operator in graph.operators:
            code, name = model.operatorCodes[operator.opcodeIndex], names[operator.opcodeIndex]
            yield (bytes(code.customCode).decode() if name == "CUSTOM" else name), operator, graph


def _move_bodies(operator: Any, n_bodies: int) -> None:
    """Shift the subgraph indices that loops and calls hold in their options."""
    for options in (operator.builtinOptions, operator.builtinOptions2):
        for name, value in vars(options).items() if options is not None else ():
            if name == "subgraph" or name.lower().endswith("subgraphindex"):
                setattr(options, name, value + n_bodies)


def _runtime_version(model: Any) -> bytes:
    """The minimum runtime version in the metadata of a file; empty where there is none."""
    for note in model.metadata or ():
        if bytes(note.name) == _RUNTIME_VERSION:
            return bytes(np.asarray(model.buffers[note.buffer].data, np.uint8)).rstrip(b"\0")
    return b""


def _as_numbers(version: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(b".") if part.isdigit())
