"""The own scores of an ONNX encoder that a head reads, put behind its embedding.

Where the scores are a dense layer (Gemm, or MatMul and Add), and a sigmoid behind it if there is one, only the columns
of its weights for these classes are kept, so that the file is not larger than one without own scores. The scores of any
other graph are computed as a whole, and the columns are gathered from them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from birdnet_fs.export.encoder_output import EncoderOutput

JOINED = "embedding_and_own_scores"


def append_own_scores(graph: Any, given: EncoderOutput) -> None:
    """Make embedding and own scores, side by side, the only output of an encoder, in place.

    Args:
        graph: An `onnx.GraphProto` with the outputs [batch, width] and [batch, n_scores].
        given: The wanted output.
    """
    from onnx import TensorProto, helper, numpy_helper

    embedding, scores = (output.name for output in graph.output)
    batch = graph.output[0].type.tensor_type.shape.dim[0]
    if not _keep_columns(graph, embedding, scores, given.own_columns):
        graph.initializer.append(numpy_helper.from_array(np.array(given.own_columns, np.int64), f"{JOINED}_columns"))
        graph.node.append(helper.make_node("Gather", [scores, f"{JOINED}_columns"], [f"{JOINED}_own"], axis=1))
        scores = f"{JOINED}_own"
    graph.node.append(helper.make_node("Concat", [embedding, scores], [JOINED], axis=1))
    del graph.output[:]
    sizes = [batch.dim_value or batch.dim_param or "batch", *given.shape]
    graph.output.append(helper.make_tensor_value_info(JOINED, TensorProto.FLOAT, sizes))


def node_inputs(node: Any) -> Iterator[str]:
    """Names of the values that a node reads, those that its nested graphs take from outside included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                yield from node_inputs(inner)
            yield from (output.name for output in graph.output)


def _keep_columns(graph: Any, embedding: str, scores: str, columns: Sequence[int]) -> bool:
    """Keep the columns of the classifier for some of its scores; False, and nothing is changed, for other graphs."""
    from onnx import numpy_helper

    made_by = {name: node for node in graph.node for name in node.output}
    reads = Counter(name for node in graph.node for name in node_inputs(node))
    constants = _constants(graph)
    computed = [scores]  # from the scores back to the matrix product
    biases: list[tuple[Any, int]] = []  # node, and place of the constant among its inputs
    while (node := made_by.get(computed[-1])) is not None and node.op_type in ("Sigmoid", "Identity", "Add"):
        place = 0
        if node.op_type == "Add":
            place = int(node.input[0] in constants)
            biases.append((node, 1 - place))
        computed.append(node.input[place])
    if node is None or node.op_type not in ("Gemm", "MatMul"):
        return False
    if embedding in computed or reads[scores] or any(reads[name] != 1 for name in computed[1:]):
        return False
    if len(node.input) > 2 and node.input[2]:
        biases.append((node, 2))
    if any(each.input[place] not in constants for each, place in ((node, 1), *biases)):
        return False
    matrix = numpy_helper.to_array(constants[node.input[1]])
    axis = 1 - next((each.i for each in node.attribute if each.name == "transB"), 0)
    if matrix.ndim != 2:
        return False
    n_scores, kept = matrix.shape[axis], [(node, 1, matrix.take(columns, axis))]
    for each, place in biases:
        value = numpy_helper.to_array(constants[each.input[place]])
        if value.size > 1 and value.shape[-1] != n_scores:
            return False
        if value.size > 1:
            kept.append((each, place, value.take(columns, -1)))
    for number, (each, place, value) in enumerate(kept):
        each.input[place] = f"{JOINED}_weights_{number}"
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), each.input[place]))
    return True


def _constants(graph: Any) -> dict[str, Any]:
    """The constants of a graph by name, as `onnx.TensorProto`."""
    found = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            found[node.output[0]] = node.attribute[0].t
    return found
