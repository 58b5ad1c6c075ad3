"""The lowered model computes the same as plain Keras; references are Keras itself and float64 torch autograd."""

import collections
import io
import math

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tolerances
import torch
from keras import layers
from lowered_networks import MODELS, NO_GRADIENT, batch, every_layer, family_model, relative, rows, shaken

from birdnet_fs import models
from birdnet_fs.models.lowering.lower import as_module, lower


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [False, True])
def test_output_and_moving_statistics_are_those_of_plain_keras(name, training):
    plain = shaken(MODELS[name]())
    twin = keras.models.clone_model(plain)
    twin.set_weights(plain.get_weights())
    lowered = lower(twin)
    assert lowered.fallback == "" and lowered.slow_layers == []
    x = batch(plain)
    for _ in range(2):
        expected, got = plain(x, training=training), lowered(x, training=training)
    assert got.shape == expected.shape and got.dtype == expected.dtype
    assert relative(got, expected) <= (tolerances.LOWERED_TRAINING if training else tolerances.LOWERED_OUTPUT)
    for a, b in zip(twin.weights, plain.weights, strict=True):
        assert relative(a.value, b.value) <= tolerances.LOWERED_STATISTICS, a.path


@pytest.mark.parametrize("name", ["every_layer", "rows", "cnn/tiny"])
def test_gradients_against_float64_keras(name):
    model = shaken(MODELS[name]())
    keras.config.set_dtype_policy("float64")
    try:
        exact = MODELS[name]("float64") if name in ("every_layer", "rows") else MODELS[name]()
    finally:
        keras.config.set_dtype_policy("float32")
    exact.set_weights(model.get_weights())
    lowered = lower(model)
    errors = []
    for seed in range(3):  # the median of three: rounding can send one value to the other side of a ReLU
        weighting = torch.randn(4, model.output_shape[1], dtype=torch.float64)
        for run, dtype in ((exact, torch.float64), (lowered, torch.float32)):
            getattr(run, "model", run).zero_grad()
            (run(batch(model, dtype=dtype, seed=seed), training=True) * weighting).sum().backward()
        pairs = zip(model.trainable_weights, exact.trainable_weights, strict=True)
        # the bias in front of a normalization, or on keys, has no gradient, only rounding
        pairs = [(a.value.grad, b.value.grad) for a, b in pairs if b.path not in NO_GRADIENT]
        errors.append([relative(a, b) for a, b in pairs])
    assert exact.weights[0].value.dtype == torch.float64
    assert np.median(errors, axis=0).max() <= tolerances.LOWERED_GRADIENT


def test_folded_batch_norm_gives_the_same_scores_and_refuses_training():
    for name in MODELS:
        model = shaken(MODELS[name]())
        folded = lower(model, fold=True)
        x = batch(model)
        assert relative(folded(x), model(x, training=False)) <= tolerances.LOWERED_OUTPUT, name
        with pytest.raises(ValueError, match="inference"):
            folded(x, training=True)


def test_state_stays_in_the_keras_model(tmp_path):
    model = MODELS["cnn/tiny"]()
    before = [np.array(w) for w in model.get_weights()]
    lowered = lower(model)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))  # only the layout moved
    optimizer = torch.optim.AdamW([w.value for w in model.trainable_weights], 1e-2)
    x = batch(model)
    for _ in range(3):
        optimizer.zero_grad()
        lowered(x, training=True).square().mean().backward()
        optimizer.step()
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    changed = [not np.array_equal(a, b) for a, b in zip(before, again.get_weights(), strict=True)]
    assert sum(changed) >= len(changed) - 1  # the logits' bias may stand still, nothing else
    with torch.no_grad():
        assert relative(again(x, training=False), lowered(x)) <= tolerances.LOWERED_OUTPUT
        model.set_weights(before)  # and values assigned in Keras are seen here
        assert relative(model(x, training=False), lowered(x)) <= tolerances.LOWERED_OUTPUT


def test_kernels_keep_shape_values_and_identity():
    model = every_layer()
    kernel = model.get_layer("conv_same_s2").kernel.value
    lower(model)
    assert model.get_layer("conv_same_s2").kernel.value is kernel and kernel.shape == (3, 3, 3, 8)
    assert kernel.permute(3, 2, 0, 1).is_contiguous(memory_format=torch.channels_last)
    model = rows()
    kernel, before = model.get_layer("lstm").cell.kernel.value, model.get_layer("lstm").cell.kernel.numpy().copy()
    lower(model)
    assert np.array_equal(model.get_layer("lstm").cell.kernel.numpy(), before) and kernel.t().is_contiguous()


@pytest.mark.parametrize("name", ["every_layer", "rows", "cnn/tiny"])
def test_autocast_gives_float32_logits_near_float32(name):
    model = shaken(MODELS[name]())
    lowered = lower(model)
    x = batch(model)
    with torch.autocast("cpu", torch.bfloat16):
        y = lowered(x, training=True)
    assert y.dtype == torch.float32
    y.sum().backward()
    assert all(bool(torch.isfinite(w.value.grad).all()) for w in model.trainable_weights)
    exact = model(x, training=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert 0 < relative(lowered(x), exact) < tolerances.BFLOAT16_OUTPUT


def test_arrays_are_taken_as_input():
    model = MODELS["cnn/tiny"]()
    x = batch(model)
    assert torch.equal(lower(model)(x.double().numpy()), lower(model)(x))


def recurrent(kind, both: bool) -> keras.Model:
    inputs = keras.Input((9, 6), name="features")
    x = layers.BatchNormalization(name="norm")(inputs)
    for number, sequences in ((1, True), (2, False)):
        rnn = kind(5, return_sequences=sequences, name=f"rnn{number}")
        x = (layers.Bidirectional(rnn, name=f"both{number}") if both else rnn)(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def vit_block() -> keras.Model:
    inputs = keras.Input((16, 24, 1), name="features")
    x = layers.Reshape((24, 8), name="tokens")(layers.Conv2D(8, 4, 4, name="patches")(inputs))
    y = layers.LayerNormalization(name="norm1")(x)
    x = layers.Add(name="add1")([x, layers.MultiHeadAttention(2, 4, name="attention")(y, y)])
    y = layers.Dense(16, activation="gelu", name="expand")(layers.LayerNormalization(name="norm2")(x))
    x = layers.Add(name="add2")([x, layers.Dense(8, name="project")(y)])
    x = layers.Cropping1D((0, 23), name="first")(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(layers.Flatten(name="flat")(x)))


# name -> its network, nodes that its file must have, no more transposes than
EXPORTED = {
    "cnn/tiny": (lambda: family_model("cnn/tiny"), {"Conv": 10, "BatchNormalization": 1}, 1),
    "efficientnet_v2/b0": (lambda: family_model("efficientnet_v2/b0"), {"Conv": 91, "BatchNormalization": 0}, 3),
    "lstm": (lambda: recurrent(layers.LSTM, False), {"LSTM": 2}, 6),
    "gru": (lambda: recurrent(layers.GRU, False), {"GRU": 2}, 6),
    "bilstm": (lambda: recurrent(layers.LSTM, True), {"LSTM": 2}, 8),
    "bigru": (lambda: recurrent(layers.GRU, True), {"GRU": 2}, 8),
    "vit_block": (vit_block, {"LayerNormalization": 2, "Conv": 1}, 7),
    "rows": (rows, {"LSTM": 2, "GRU": 3}, 60),
}


QUICK = ("cnn/tiny",)  # with the exporter that takes its time


def exported(module: torch.nn.Module, x: torch.Tensor, dynamo: bool) -> onnx.ModelProto:
    """The module as ONNX, the size of the batch left open."""
    settings = {"dynamo": dynamo, "input_names": ["features"], "output_names": ["logits"]}
    file = io.BytesIO()
    if dynamo:
        batch_size = torch.export.Dim("batch", min=1, max=64)
        torch.onnx.export(module, (x,), file, dynamic_shapes={"features": {0: batch_size}}, verbose=False, **settings)
    else:
        torch.onnx.export(module, (x,), file, dynamic_axes={"features": {0: "batch"}}, **settings)
    return onnx.load_from_string(file.getvalue())


@pytest.mark.parametrize(
    ("name", "dynamo"),
    [(name, False) for name in EXPORTED]
    + [pytest.param(name, True, marks=[] if name in QUICK else pytest.mark.slow) for name in EXPORTED],
)
@pytest.mark.filterwarnings("ignore")
def test_onnx_of_the_module_scores_any_batch_without_loops_or_many_transposes(name, dynamo):
    make, nodes, most_transposes = EXPORTED[name]
    model = shaken(make())
    module = as_module(model)
    file = exported(module, batch(model, 2), dynamo)
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    for n in (1, 3):
        x = batch(model, n, seed=n)
        (got,) = session.run(None, {"features": x.numpy()})
        assert relative(torch.from_numpy(got), model(x, training=False)) <= tolerances.ONNX_OUTPUT
    kinds = collections.Counter(node.op_type for node in file.graph.node)
    assert not {"Loop", "Scan", "If"} & set(kinds)
    assert {kind: kinds[kind] for kind in nodes} == nodes
    assert kinds["Transpose"] <= most_transposes, kinds["Transpose"]
    # every weight is in the file, under the name of its layer
    constants = [node.attribute[0].t for node in file.graph.node if node.op_type == "Constant"]
    stored = sum(math.prod(tensor.dims) for tensor in (*file.graph.initializer, *constants))
    assert stored >= sum(math.prod(weight.shape) for weight in model.trainable_weights if weight.path[-5:] != "gamma")
    assert {name.split(".")[0] for name, _ in module.named_buffers()} <= {layer.name for layer in model.layers}


@pytest.mark.parametrize("name", ["rows", "every_layer", "vit_block", "with own layers"])
@pytest.mark.filterwarnings("ignore")
def test_module_is_traced_and_exported_with_its_weights(name):
    if name == "with own layers":
        model = models.build("cnn/tiny", input_shape=(36, 33, 1), n_classes=3, head="cosine")
    else:
        model = shaken({**MODELS, "vit_block": vit_block}[name]())
    module = as_module(model)
    x, others = batch(model, 2), batch(model, 3)
    traced = torch.jit.trace(module, x)
    dynamic = {"features": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(module, (x,), dynamic_shapes=dynamic)
    expected = model(others, training=False)
    assert relative(traced(others), expected) <= tolerances.LOWERED_OUTPUT
    assert relative(program.module()(others), expected) <= tolerances.LOWERED_OUTPUT
    assert set(program.state_dict) == set(module.state_dict())
    assert all(constant.ndim == 0 for constant in program.constants.values())  # numbers of operations
    assert not any(weight.requires_grad for weight in module.state_dict().values())
    before = module(others)
    for weight in model.weights:  # what was taken stays as it was
        weight.assign(np.zeros(weight.shape))
    assert torch.equal(module(others), before)
