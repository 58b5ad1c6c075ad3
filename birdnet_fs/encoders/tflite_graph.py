"""Reading, writing and cutting of TFLite files.

Source of the layout: https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs. A model has
operator codes, buffers and subgraphs; the first subgraph is the network, the others are the bodies of its loops;
tensors and operators refer to these by index.
"""

from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

IDENTIFIER = b"TFL3"
SIGNATURE = "serving_default"


def read_model(path: Path) -> Any:
    """The model of a TFLite file, as the `ModelT` of the runtime's schema."""
    return _schema().ModelT.InitFromPackedBuf(path.read_bytes(), 0)


def to_bytes(model: Any) -> bytes:
    """The bytes of the TFLite file of a `ModelT`."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def write_model(model: Any, path: Path) -> None:
    """Write a `ModelT` of `read_model` to a file."""
    path.write_bytes(to_bytes(model))


def read_foreign(path: Path) -> Any:
    """The model of a TFLite file of unknown origin.

    Args:
        path: The file.

    Returns:
        The `ModelT`.

    Raises:
        UserError: The file is missing, is not TFLite, or its tables are damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{escaped(path)} cannot be read ({error.strerror}).") from None
    if content[4:8] != IDENTIFIER:
        raise UserError(f"{escaped(path)} must be a TFLite file; its first bytes are not those of one.")
    try:
        model = _schema().ModelT.InitFromPackedBuf(content, 0)
        if not model.subgraphs or not model.operatorCodes:
            raise ValueError("no graph")
    except Exception as error:  # the generated reader raises struct, index, type and memory errors
        raise UserError(f"{escaped(path)} is a damaged TFLite file ({type(error).__name__}); copy it again.") from None
    return model


def tensor_shape(tensor: Any) -> tuple[int, ...]:
    """Shape of a tensor, -1 for an open dimension."""
    shape = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    return tuple(int(n) for n in shape) if shape is not None else ()


def operator_names(model: Any) -> list[str]:
    """Names of the operator codes of a model in their order, such as ["CONV_2D", "CUSTOM"]; "" for unknown ones."""
    names = {value: name for name, value in vars(_schema().BuiltinOperator).items() if isinstance(value, int)}
    return [names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "") for code in model.operatorCodes]


def before_last_dense(model: Any) -> int | None:
    """Index of the tensor that the last fully connected layer reads; None where there is no such layer."""
    names, graph = operator_names(model), model.subgraphs[0]
    found = [operator for operator in graph.operators if names[operator.opcodeIndex] == "FULLY_CONNECTED"]
    return int(found[-1].inputs[0]) if found else None


def cut_at(model: Any, tensor: int, shape: tuple[int, ...], *, outputs: tuple[int, ...] = ()) -> None:
    """Make an inner tensor the first output of a model, in place, and drop what only other outputs need.

    The buffers of dropped operators are emptied, so that their weights are not stored.

    Args:
        model: A `ModelT` with one input and one subgraph that is run.
        tensor: Index of the tensor in the first subgraph; it becomes [batch, *shape].
        shape: Shape of the tensor for one window.
        outputs: Indices of tensors that stay outputs behind it. Default: none.
    """
    graph = model.subgraphs[0]
    wanted, used = {tensor, *outputs}, set()
    kept = []
    for operator in reversed(graph.operators):
        if wanted & {int(index) for index in operator.outputs}:
            kept.append(operator)
            inputs = {int(index) for index in operator.inputs if index >= 0}
            wanted |= inputs
            used |= inputs | {int(index) for index in operator.outputs}
    graph.operators = kept[::-1]
    alive = {int(graph.tensors[index].buffer) for index in used | wanted}
    for subgraph in model.subgraphs[1:]:
        alive |= {int(each.buffer) for each in subgraph.tensors}
    alive |= {int(note.buffer) for note in model.metadata or ()}
    for index, each in enumerate(graph.tensors):
        if index not in used and int(each.buffer) not in alive:
            model.buffers[each.buffer].data = None
            each.buffer = 0
    graph.outputs = [tensor, *outputs]
    graph.tensors[tensor].shapeSignature = np.array([-1, *shape], np.int32)
    fb = _schema()
    maps = [fb.TensorMapT(name=b"embeddings", tensorIndex=tensor)]
    maps += [fb.TensorMapT(name=b"scores_%d" % place, tensorIndex=index) for place, index in enumerate(outputs)]
    model.signatureDefs = [
        fb.SignatureDefT(
            inputs=[fb.TensorMapT(name=b"inputs", tensorIndex=int(graph.inputs[0]))],
            outputs=maps,
            signatureKey=SIGNATURE.encode(),
            subgraphIndex=0,
        )
    ]


def empty_unused_buffers(model: Any) -> None:
    """Empty the buffers of a model that no tensor and no metadata uses, in place, so that they are not stored."""
    used = {0} | {int(t.buffer) for graph in model.subgraphs for t in graph.tensors}
    used |= {int(m.buffer) for m in model.metadata or ()} | {int(b) for b in model.metadataBuffer or ()}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None


def _schema() -> Any:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        raise UserError(
            'A .tflite encoder needs a TFLite runtime; install one with `pip install "birdnet_fs[export]"`.'
        ) from None
    return schema_py_generated
