"""The own scores of a TFLite encoder that a head reads, put behind its embedding.

Where the scores are a dense layer, and a sigmoid behind it if there is one, only the rows of its weights for these
classes are kept, so that the file is not larger than one without own scores. The scores of any other graph are computed
as a whole, and the columns are gathered from them.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from birdnet_fs.encoders.tflite_graph import empty_unused_buffers, operator_names, tensor_shape

_TYPES = {0: np.float32, 1: np.float16}  # number of a type in the schema


def append_own_scores(model: Any, columns: Sequence[int]) -> None:
    """Make embedding and own scores, side by side, the only output of an encoder, in place.

    Args:
        model: A `ModelT` of `encoders.open.cut_tflite` with own scores: outputs [batch, width] and [batch, n_scores].
        columns: Places of the wanted scores, one or more.
    """
    from ai_edge_litert import schema_py_generated as fb

    graph = model.subgraphs[0]
    embedding, scores = (int(index) for index in graph.outputs)
    if not _keep_rows(model, embedding, scores, columns):
        buffer = _buffer(model, np.asarray(columns, np.int32))
        places = _tensor(graph, "own_columns", [len(columns)], fb.TensorType.INT32, buffer)
        found = _tensor(graph, "own_scores", [-1, len(columns)], fb.TensorType.FLOAT32)
        _operator(model, "GATHER", [scores, places], found, fb.GatherOptionsT(axis=1))
        scores = found
    width = tensor_shape(graph.tensors[embedding])[-1] + len(columns)
    whole = _tensor(graph, "embedding_and_own_scores", [-1, width], fb.TensorType.FLOAT32)
    _operator(model, "CONCATENATION", [embedding, scores], whole, fb.ConcatenationOptionsT(axis=1))
    graph.outputs = [whole]
    (signature,) = model.signatureDefs
    signature.outputs = [fb.TensorMapT(name=b"embeddings", tensorIndex=whole)]


def _keep_rows(model: Any, embedding: int, scores: int, columns: Sequence[int]) -> bool:
    """Keep the rows of the classifier for some of its scores; False, and nothing is changed, for other graphs."""
    graph, names = model.subgraphs[0], operator_names(model)
    made_by = {int(index): operator for operator in graph.operators for index in operator.outputs}
    reads = Counter(int(index) for operator in graph.operators for index in operator.inputs)

    def source(index: int, name: str) -> int | None:
        """First input of the operator of this name that alone computes a tensor; None where another one does."""
        operator = made_by.get(index)
        return int(operator.inputs[0]) if operator is not None and names[operator.opcodeIndex] == name else None

    computed = [scores]  # from the scores back to the output of the dense layer
    while (before := source(computed[-1], "LOGISTIC")) is not None:
        computed.append(before)
    if source(computed[-1], "FULLY_CONNECTED") is None or embedding in computed:
        return False
    stored = []  # weights and bias, as computed from a constant and as stored
    for index in (int(each) for each in made_by[computed[-1]].inputs[1:] if each >= 0):
        constant = source(index, "DEQUANTIZE")
        stored += [index] if constant is None else [index, constant]
    n_scores, kept = tensor_shape(graph.tensors[scores])[-1], {}
    for index in stored:
        if index not in made_by:
            value = _constant(model, graph.tensors[index])
            if value is None or len(value) != n_scores:
                return False
            kept[index] = value[list(columns)]
    if reads[scores] or any(reads[index] != 1 for index in (*computed[1:], *stored)):
        return False
    for index in computed:
        tensor = graph.tensors[index]
        tensor.shape = np.array([*tensor.shape[:-1], len(columns)], np.int32)
        if tensor.shapeSignature is not None:
            tensor.shapeSignature = np.array([*tensor.shapeSignature[:-1], len(columns)], np.int32)
    for index in stored:
        tensor = graph.tensors[index]
        tensor.shape, tensor.shapeSignature = np.array([len(columns), *tensor.shape[1:]], np.int32), None
    for index, value in kept.items():
        graph.tensors[index].buffer = _buffer(model, value)
    empty_unused_buffers(model)
    return True


def _constant(model: Any, tensor: Any) -> np.ndarray | None:
    """The values of a constant in float32 or float16; None for any other tensor."""
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0 or tensor.type not in _TYPES:
        return None
    return np.asarray(data, np.uint8).view(_TYPES[tensor.type]).reshape(tensor.shape)


def _buffer(model: Any, value: np.ndarray) -> int:
    """Append a buffer with the values of an array; its index."""
    from ai_edge_litert import schema_py_generated as fb

    model.buffers.append(fb.BufferT(data=np.frombuffer(value.tobytes(), np.uint8)))
    return len(model.buffers) - 1


def _tensor(graph: Any, name: str, shape: Sequence[int], kind: int, buffer: int = 0) -> int:
    """Append a tensor; its index."""
    from ai_edge_litert import schema_py_generated as fb

    sizes = np.array(shape, np.int32)
    signature = sizes if (sizes < 0).any() else None
    one = fb.TensorT(name=name.encode(), shape=np.abs(sizes), shapeSignature=signature, type=int(kind), buffer=buffer)
    one.hasRank = True
    graph.tensors.append(one)
    return len(graph.tensors) - 1


def _operator(model: Any, name: str, inputs: Sequence[int], output: int, options: Any) -> None:
    """Append an operator of the first version."""
    from ai_edge_litert import schema_py_generated as fb

    code = int(getattr(fb.BuiltinOperator, name))
    model.operatorCodes.append(fb.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=1))
    one = fb.OperatorT(opcodeIndex=len(model.operatorCodes) - 1, inputs=list(inputs), outputs=[output])
    one.builtinOptionsType = int(getattr(fb.BuiltinOptions, type(options).__name__.removesuffix("T")))
    one.builtinOptions = options
    model.subgraphs[0].operators.append(one)
