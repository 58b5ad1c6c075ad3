"""Small stand-ins for encoders of other projects: the shapes of their files, none of their weights.

A stand-in averages each of N_BANDS pieces of the window and applies random weights; `embedding` repeats this in NumPy.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tflite_graphs import TfliteGraph

N_BANDS = 32


def weights(width: int, seed: int = 0) -> np.ndarray:
    """Random weights [N_BANDS, width] of a stand-in, exact in float16."""
    return np.random.default_rng(seed).normal(size=(N_BANDS, width)).astype(np.float16).astype(np.float32)


def embedding(waveforms: np.ndarray, width: int, seed: int = 0) -> np.ndarray:
    """The embeddings of a stand-in in float64: [n, n_samples] -> [n, width]."""
    bands = waveforms.astype(np.float64).reshape(len(waveforms), N_BANDS, -1).mean(2)
    return np.maximum(bands @ weights(width, seed), 0)


def scores_of(embeddings: np.ndarray, n_scores: int) -> np.ndarray:
    """The scores of an ONNX stand-in: columns of the embedding again and again, [n, width] -> [n, n_scores]."""
    return embeddings[:, np.arange(n_scores) % embeddings.shape[1]]


def write_onnx(
    path: Path,
    n_samples: int,
    width: int,
    *,
    outputs: tuple[str, ...] = ("embedding", "label"),
    n_scores: int = 50,
    tokens: tuple[int, ...] = (),
    open_length: bool = False,
    batch: int | None = None,
    answer_rows: int | None = None,
    classifier: Sequence[str] = (),
) -> Path:
    """Write an ONNX stand-in; `outputs` names embedding, scores and, with `tokens`, the tokens in the file's order.

    Its scores are columns of the embedding; with `classifier`, "Gemm" or "MatMul" and what is applied to the product
    ("Sigmoid", "Softmax"), those of `class_scores`.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    named = {"embedding": "_e", "label": "_s", "tokens": "_t"}
    size = "batch" if batch is None else batch
    constants = {
        "_to_bands": np.array([-1, N_BANDS, n_samples // N_BANDS], np.int64),
        "_w": weights(width),
        **({"_c": class_weights(width, n_scores).T.copy(), "_b": class_bias(n_scores)} if classifier else {}),
        "_columns": np.arange(n_scores, dtype=np.int64) % width,
        "_first": np.array([0], np.int64),
        "_axis": np.array([2], np.int64),
        "_places": np.array([1, int(np.prod(tokens[:-1], dtype=int)) if tokens else 1, 1], np.int64),
        "_to_tokens": np.array([-1, *(tokens or (1, width))], np.int64),
        "_middle": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["in_", "_to_bands"], ["_bands"]),
        helper.make_node("ReduceMean", ["_bands", "_axis"], ["_means"], keepdims=0),
        helper.make_node("MatMul", ["_means", "_w"], ["_product"]),
        helper.make_node("Relu", ["_product"], ["_all"]),
        helper.make_node("Gather", ["_all", "_first"], ["_e"], axis=0)
        if answer_rows
        else helper.make_node("Identity", ["_all"], ["_e"]),
        *(_classifier_nodes(classifier) or [helper.make_node("Gather", ["_e", "_columns"], ["_s"], axis=1)]),
        helper.make_node("Unsqueeze", ["_e", "_middle"], ["_one"]),
        helper.make_node("Tile", ["_one", "_places"], ["_many"]),
        helper.make_node("Reshape", ["_many", "_to_tokens"], ["_t"]),
    ]
    shapes = {"_e": [size, width], "_s": [size, n_scores], "_t": [size, *(tokens or (1, width))]}
    wanted, renamed = [], []
    for name in outputs:
        source = named.get(name.split(":")[0])
        shown = name.split(":")[-1]
        nodes.append(helper.make_node("Identity", [source], [f"out_{shown}"]))
        wanted.append(helper.make_tensor_value_info(f"out_{shown}", TensorProto.FLOAT, shapes[source]))
        renamed.append(shown)
    length = "samples" if open_length else n_samples
    graph = helper.make_graph(
        nodes,
        "stand_in",
        [helper.make_tensor_value_info("in_", TensorProto.FLOAT, [size, length])],
        wanted,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    for node in graph.node:
        for places in (node.input, node.output):
            for index, name in enumerate(places):
                if name.startswith("out_"):
                    places[index] = name[4:]
    for output in graph.output:
        output.name = output.name[4:]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, path)
    return path


def _classifier_nodes(classifier: Sequence[str]) -> list:
    """Nodes from the embedding to the scores."""
    from onnx import helper

    if not classifier:
        return []
    product, *behind = classifier
    names = ["_class_logits", *(f"_class_{name}" for name in behind)]
    if product == "Gemm":
        nodes = [helper.make_node("Gemm", ["_e", "_c", "_b"], [names[0]])]
    else:
        nodes = [helper.make_node("MatMul", ["_e", "_c"], ["_class_product"])]
        nodes.append(helper.make_node("Add", ["_b", "_class_product"], [names[0]]))
    for name, given, made in zip(behind, names, names[1:], strict=False):
        nodes.append(helper.make_node(name, [given], [made]))
    return [*nodes, helper.make_node("Identity", [names[-1]], ["_s"])]


def class_weights(width: int, n_scores: int) -> np.ndarray:
    """Weights [n_scores, width] of the classifier of a stand-in, exact in float16."""
    found = np.random.default_rng(1).normal(size=(n_scores, width)) / width**0.5
    return found.astype(np.float16).astype(np.float32)


def class_bias(n_scores: int) -> np.ndarray:
    """Bias [n_scores] of the classifier of an ONNX stand-in."""
    return np.random.default_rng(2).normal(size=n_scores).astype(np.float32)


def class_scores(embeddings: np.ndarray, n_scores: int) -> np.ndarray:
    """Logits of an ONNX stand-in with a classifier in float64: [n, width] -> [n, n_scores]."""
    return embeddings @ class_weights(embeddings.shape[1], n_scores).T.astype(np.float64) + class_bias(n_scores)


def write_tflite(
    path: Path, n_samples: int, width: int, n_scores: int, *, batch: int = -1, activation: str = ""
) -> Path:
    """Write a TFLite stand-in: the embedding is inside, the scores are the only output, as in BirdNET 2.4.

    With `activation`, LOGISTIC or SOFTMAX, the scores are probabilities.
    """
    graph = TfliteGraph()
    given = graph.tensor("INPUT", [batch, n_samples])
    bands = graph.reshape(given, graph.tensor("bands", [batch, N_BANDS, n_samples // N_BANDS]))
    means = graph.mean(bands, [2], graph.tensor("means", [batch, N_BANDS]))
    inner = graph.tensor("model/GLOBAL_AVG_POOL/Mean", [batch, width])
    graph.dense(means, "w", weights(width).T, inner, relu=True)
    scores = graph.tensor("Identity", [batch, n_scores])
    graph.dense(inner, "head", class_weights(width, n_scores), scores)
    if activation:
        scores = graph.activation(activation, scores, graph.tensor("probabilities", [batch, n_scores]))
    return graph.write(path, given, [scores])


def tflite_scores(waveforms: np.ndarray, width: int, n_scores: int) -> np.ndarray:
    """The scores of a TFLite stand-in in float64: [n, n_samples] -> [n, n_scores]."""
    return embedding(waveforms, width) @ class_weights(width, n_scores).T.astype(np.float64)
