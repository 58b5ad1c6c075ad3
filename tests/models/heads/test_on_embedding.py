"""Heads on embeddings: shapes, paths, lowering, and the same logits in TFLite and ONNX."""

import keras
import numpy as np
import preloaded
import pytest
import tolerances
import torch
from installed import need

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.models.heads.on_embedding import HEADS, build_encoder_head
from birdnet_fs.models.lowering.lower import as_module, lower

WIDTH, N_TOKENS, N_CLASSES = 20, 6, 4
SHAPES = [
    (head, shape)
    for head in HEADS
    for shape in ((WIDTH,), (N_TOKENS, WIDTH))
    if head != "attentive" or len(shape) == 2  # it needs tokens
]


def settings(head: str, transform: str = "sqrt") -> schema.Model:
    chosen = schema.EncoderHead(transform=transform)
    return schema.Model(encoder="x.tflite", head=head, distance="cosine", logit_scale=7.0, encoder_head=chosen)


def build(head: str, shape: tuple[int, ...], transform: str = "sqrt") -> keras.Model:
    keras.utils.set_random_seed(0)
    model = build_encoder_head(settings(head, transform), shape, N_CLASSES)
    rng = np.random.default_rng(1)
    for variable in model.weights:
        if "seed_generator" not in variable.path:
            variable.assign(rng.uniform(0.1, 0.9, variable.shape) - 0.5 * (variable.path != "embedding/scale"))
    return model


def embeddings(n: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.maximum(np.random.default_rng(2).standard_normal((n, *shape)), 0).astype(np.float32)


@pytest.mark.parametrize(("head", "shape"), SHAPES)
def test_names_shapes_and_lowering(head, shape):
    model = build(head, shape)
    assert model.input.name == "features" and model.layers[-1].name == "logits"
    width = model.get_layer("embedding").output.shape[-1]
    assert width % WIDTH == 0 and (width == WIDTH or head == "attentive")  # which has several queries
    x = torch.from_numpy(embeddings(5, shape))
    with torch.no_grad():
        expected, lowered = model(x), lower(model)
        assert expected.shape == (5, N_CLASSES) and expected.dtype == torch.float32
        assert lowered.fallback == "" and lowered.slow_layers == []
        error = (lowered(x) - expected).abs().max() / expected.abs().max()
    assert float(error) <= tolerances.LOWERED_OUTPUT


def test_embedding_is_transformed():
    for transform in ("sqrt", "none", "auto"):
        model = build("linear", (WIDTH,), transform)
        given = keras.Model(model.input, model.get_layer("embedding").output).predict_on_batch(embeddings(3, (WIDTH,)))
        center, scale = (np.asarray(v) for v in model.get_layer("embedding").weights)
        x = np.sqrt(embeddings(3, (WIDTH,))) if transform == "sqrt" else embeddings(3, (WIDTH,))
        np.testing.assert_allclose(given, (x - center) * scale, atol=tolerances.ONE_STEP)


def test_what_cannot_be_built_is_refused():
    for shape in ((), (2, 3, 4), (0,)):
        with pytest.raises(UserError, match="Features of an encoder must be"):
            build_encoder_head(settings("linear"), shape, 3)
    with pytest.raises(UserError, match="n_classes must be 1 or more"):
        build_encoder_head(settings("linear"), (3,), 0)
    with pytest.raises(UserError, match=r"model.head on an encoder must be one of .* Received: auto"):
        build_encoder_head(settings("auto"), (3,), 2)


def all_heads() -> keras.Model:
    """Every head on the same tokens and on their mean, as one network, since each conversion takes seconds."""
    features = keras.Input((N_TOKENS, WIDTH), name="features")
    outputs = []
    for head, shape in SHAPES:
        network = build(head, shape)
        network.name = f"{head}_{len(shape)}"
        x = features if len(shape) == 2 else keras.layers.GlobalMaxPooling1D(name=f"{head}_embedding")(features)
        outputs.append(network(x))
    return keras.Model(features, keras.layers.Concatenate(name="all_logits")(outputs))


ON_TENSORFLOW = """
import sys, numpy as np, keras
from pathlib import Path
from ai_edge_litert.interpreter import Interpreter
from birdnet_fs.export.tflite.convert import check_operators, convert_model
import birdnet_fs.models.heads.on_embedding
folder = Path(sys.argv[1])
model, x = keras.models.load_model(folder / "heads.keras"), np.load(folder / "x.npy")
convert_model(model, (None, *x.shape[1:]), "features", folder / "heads.tflite")
check_operators(folder / "heads.tflite")
run = Interpreter(model_path=str(folder / "heads.tflite")).get_signature_runner()
logits = [*run(features=x[:1]).values(), *run(features=x[1:]).values()]
np.save(folder / "tflite.npy", np.concatenate(logits))
"""


def test_every_head_gives_the_same_logits_in_tflite_for_any_batch(tmp_path):
    need("tensorflow")
    model, x = all_heads(), embeddings(4, (N_TOKENS, WIDTH))
    model.save(tmp_path / "heads.keras")
    np.save(tmp_path / "x.npy", x)
    run = preloaded.run_python(["-c", ON_TENSORFLOW, tmp_path])
    assert run.returncode == 0, run.stderr
    _check_each(np.load(tmp_path / "tflite.npy"), np.asarray(model.predict_on_batch(x)), tolerances.BACKENDS)


def test_every_head_gives_the_same_logits_in_onnx_for_any_batch():
    need("onnxruntime")
    need("onnxscript")
    import onnxruntime

    model = all_heads()
    program = torch.onnx.export(
        as_module(model),
        (torch.from_numpy(embeddings(2, (N_TOKENS, WIDTH))),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        input_names=["features"],
        verbose=False,
    )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for n in (1, 5):
        x = embeddings(n, (N_TOKENS, WIDTH))
        given = session.run(None, {"features": x})[0]
        _check_each(given, np.asarray(model.predict_on_batch(x)), tolerances.ONNX_OUTPUT)


def _check_each(given: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Compare the logits of each head on its own scale."""
    assert given.shape == expected.shape == (len(expected), N_CLASSES * len(SHAPES))
    for i, (head, shape) in enumerate(SHAPES):
        own = slice(i * N_CLASSES, (i + 1) * N_CLASSES)
        error = np.abs(given[:, own] - expected[:, own]).max()
        assert error <= tolerance * np.abs(expected[:, own]).max(), (head, shape)
