"""Reading an ONNX encoder, and leaving out of its graph what the head behind it does not need."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.encoders.inspection import embedding_of, inspect_file, scores_of
from birdnet_fs.encoders.tokens import tokens_of
from birdnet_fs.export.encoder_output import EncoderOutput
from birdnet_fs.export.onnx.own_scores import append_own_scores, node_inputs


def read_encoder(path: Path, given: EncoderOutput) -> Any:
    """Read an encoder and leave out what the head does not need.

    Args:
        path: The ONNX file.
        given: Output of the encoder in the joined file, with a card that fits the file.

    Returns:
        An `onnx.ModelProto` with the input of the file, its length set to that of a window, and one output
        [batch, *given.shape].

    Raises:
        UserError: The file keeps weights in other files.
    """
    import onnx
    from onnx import inliner

    facts, card = inspect_file(path), given.card
    wanted = [embedding_of(facts, card), scores_of(facts, card) if given.own_columns else None]
    if given.tokens:
        wanted = [tokens_of(facts, card)]
    model = onnx.load(path, load_external_data=False)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model.graph)):
        raise UserError(
            f"{escaped(path)} keeps its weights in other files; save the encoder as one file (in Python: "
            "onnx.save(onnx.load(FILE), NEW_FILE)) and train on that."
        )
    model = inliner.inline_local_functions(model) if model.functions else model
    graph = model.graph
    names = [each.name for each in wanted if each is not None]  # of all: choose_card refuses a file without one
    kept = [output for name in names for output in graph.output if output.name == name]
    del graph.output[:], graph.value_info[:]
    graph.output.extend(kept)
    keep_needed(graph)
    if given.own_columns:
        append_own_scores(graph, given)
        keep_needed(graph)
    constants = {tensor.name for tensor in graph.initializer}  # older files list these among the inputs
    inputs = [value for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(inputs)
    length = graph.input[0].type.tensor_type.shape.dim[-1]
    length.ClearField("dim_param")
    length.dim_value = card.n_samples
    return model


def keep_needed(graph: Any) -> None:
    """Leave out nodes and weights of an `onnx.GraphProto`, in place, that its outputs do not need."""
    wanted, kept = {output.name for output in graph.output}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node_inputs(node))
    kept.reverse()
    del graph.node[:]
    graph.node.extend(kept)
    for field in (graph.initializer, graph.sparse_initializer):
        needed = [each for each in field if getattr(each, "values", each).name in wanted]
        del field[:]
        field.extend(needed)


def _tensors(graph: Any) -> Iterator[Any]:
    """Every stored tensor of an `onnx.GraphProto`, those of constant nodes and nested graphs included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _tensors(inner)
