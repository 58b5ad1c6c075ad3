"""A small stand-in for Perch v2 with its input, names and shapes of outputs, and none of its weights.

A window is cut into a piece for each place in time and frequency; the spatial embedding of a place is a dense layer
with ReLU on averages within its piece, the embedding is the mean over the places.
"""

from pathlib import Path

import numpy as np
from tflite_graphs import TfliteGraph

N_SAMPLES, WIDTH, TOKENS = 160_000, 1536, (16, 4, 1536)
N_BANDS = 25  # averages of each piece
N_PLACES = TOKENS[0] * TOKENS[1]
N_SCORES = 14_795


def weights() -> np.ndarray:
    """Random weights [N_BANDS, WIDTH]."""
    return np.random.default_rng(0).normal(size=(N_BANDS, WIDTH)).astype(np.float32)


def spatial_embedding(waveforms: np.ndarray) -> np.ndarray:
    """The tokens in float64: [n, N_SAMPLES] -> [n, *TOKENS]."""
    pieces = waveforms.astype(np.float64).reshape(len(waveforms), *TOKENS[:2], N_BANDS, -1).mean(-1)
    return np.maximum(pieces @ weights(), 0)


def write_tflite(path: Path) -> Path:
    """Write the stand-in as a TFLite file with the outputs spatial_embedding, embedding and label in this order."""
    graph = TfliteGraph()
    given = graph.tensor("inputs", [-1, N_SAMPLES])
    pieces = graph.reshape(given, graph.tensor("pieces", [-1, N_BANDS, N_SAMPLES // N_PLACES // N_BANDS]))
    means = graph.mean(pieces, [2], graph.tensor("means", [-1, N_BANDS]))
    places = graph.dense(means, "w", weights().T, graph.tensor("places", [-1, WIDTH]), relu=True)
    tokens = graph.reshape(places, graph.tensor("spatial_embedding", [-1, *TOKENS]))
    embedding = graph.mean(tokens, [1, 2], graph.tensor("embedding", [-1, WIDTH]))
    narrow = graph.dense(embedding, "narrow", weights()[:4], graph.tensor("narrow", [-1, 4]))
    head = np.random.default_rng(1).normal(size=(N_SCORES, 4)).astype(np.float32)
    label = graph.dense(narrow, "head", head, graph.tensor("label", [-1, N_SCORES]))
    return graph.write(path, given, [tokens, embedding, label])


def write_onnx(path: Path) -> Path:
    """Write the stand-in as an ONNX file with the four outputs of Perch v2."""
    import onnx
    from onnx import numpy_helper, parser

    time, frequency, width = TOKENS
    length = N_SAMPLES // N_PLACES // N_BANDS
    text = f"""<ir_version: 9, opset_import: ["" : 18]>
    perch (float[batch, {N_SAMPLES}] inputs) => (float[batch, {WIDTH}] embedding,
        float[batch, {time}, {frequency}, {width}] spatial_embedding, float[batch, {N_PLACES}, {N_BANDS}] spectrogram,
        float[batch, {N_SCORES}] label)
    <int64[4] to_pieces = {{-1, {N_PLACES}, {N_BANDS}, {length}}}, int64[1] last = {{3}}, int64[2] places = {{1, 2}},
     int64[4] to_tokens = {{-1, {time}, {frequency}, {width}}}> {{
        pieces = Reshape (inputs, to_pieces)
        spectrogram = ReduceMean <keepdims = 0> (pieces, last)
        product = MatMul (spectrogram, w)
        positive = Relu (product)
        spatial_embedding = Reshape (positive, to_tokens)
        embedding = ReduceMean <keepdims = 0> (spatial_embedding, places)
        narrowed = MatMul (embedding, narrow)
        label = Gemm (narrowed, head)
    }}"""
    model = parser.parse_model(text)
    head = np.random.default_rng(1).normal(size=(4, N_SCORES)).astype(np.float32)
    for name, value in {"w": weights(), "narrow": np.ascontiguousarray(weights()[:4].T), "head": head}.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    onnx.save(model, path)
    return path
