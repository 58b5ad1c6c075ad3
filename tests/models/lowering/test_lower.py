"""The lowered graph computes what plain Keras computes; the references are Keras itself and float64 torch autograd."""

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

from birdnet_fs import models
from birdnet_fs.models.blocks import LayerScale
from birdnet_fs.models.lowering import rules_conv
from birdnet_fs.models.lowering.lower import as_module, lower


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


@keras.saving.register_keras_serializable("tests")
class Twice(layers.Layer):
    """A layer lowering has never heard of, with a training flag."""

    def call(self, x, training=False):
        return x * (2.0 if training else 3.0)


def every_layer(dtype: str = "float32") -> keras.Model:
    """A network with every layer that has a rule, in the settings that differ: padding, stride, axis, bias."""

    def named(kind, name, *args, **settings):
        return kind(*args, dtype=dtype, name=name, **settings)

    inputs = keras.Input((17, 14, 3), name="features", dtype=dtype)
    x = named(layers.Rescaling, "rescaling", 0.5, offset=0.1)(inputs)
    x = named(layers.ZeroPadding2D, "zeros", ((1, 0), (2, 1)))(x)
    x = named(layers.Conv2D, "conv_same_s2", 8, 3, strides=2, padding="same")(x)
    x = named(layers.BatchNormalization, "bn", momentum=0.7)(x)
    x = named(layers.Activation, "silu", "silu")(x)
    skip = x
    x = named(layers.DepthwiseConv2D, "depthwise", 3, padding="same", depth_multiplier=2)(x)
    x = named(layers.BatchNormalization, "bn_bare", scale=False, center=False)(x)
    x = named(layers.ReLU, "relu")(x)
    x = named(layers.Conv2D, "grouped", 8, (1, 3), padding="same", groups=4, use_bias=False, activation="gelu")(x)
    gate = named(layers.GlobalAveragePooling2D, "squeeze", keepdims=True)(x)
    gate = named(layers.Conv2D, "gate", 8, 1, activation="sigmoid")(gate)
    x = named(layers.Multiply, "excite")([x, gate])
    x = named(layers.Dropout, "no_depth", 0.0, noise_shape=(None, 1, 1, 1))(x)
    x = named(layers.Add, "add")([x, skip])
    x = named(layers.SpatialDropout2D, "no_maps", 0.0)(x)
    x = named(layers.Conv2D, "dilated", 6, 3, padding="same", dilation_rate=2)(x)
    x = named(layers.BatchNormalization, "bn_band", axis=2)(x)
    x = named(layers.ReLU, "relu6", max_value=6)(x)
    x = named(layers.MaxPooling2D, "max_same", 2, strides=1, padding="same")(x)
    x = named(layers.AveragePooling2D, "avg_same", 3, strides=2, padding="same")(x)
    x = named(layers.MaxPooling2D, "max_valid", 2, strides=1)(x)
    x = named(layers.Permute, "swap", (2, 1, 3))(x)
    mean = named(layers.AveragePooling2D, "mean", (x.shape[1], 1))(x)
    x = named(layers.Concatenate, "cat")([x, named(layers.Subtract, "less")([x, mean])])
    x = named(layers.LayerNormalization, "ln")(x)
    x = named(layers.Dense, "dense4d", 5, activation="tanh")(x)
    top = named(layers.GlobalMaxPooling2D, "gmax")(x)
    x = named(layers.Reshape, "rows", (x.shape[1] * x.shape[2], -1))(x)
    x = named(layers.Flatten, "flat")(x)
    x = named(layers.Dropout, "no_dropout", 0.0)(x)
    x = named(layers.Concatenate, "join")([x, top])
    x = named(layers.Dense, "hidden", 6, use_bias=False)(x)
    x = named(layers.BatchNormalization, "bn_flat")(x)
    x = named(layers.Activation, "softmax", "softmax")(x)
    return keras.Model(inputs, named(layers.Dense, "logits", 4)(x))


def rows(dtype: str = "float32") -> keras.Model:
    """A network with every layer that has a rule for rows [batch, n, width], and attention over them."""

    def named(kind, name, *args, **settings):
        return kind(*args, dtype=dtype, name=name, **settings)

    inputs = keras.Input((11, 6), name="features", dtype=dtype)
    x = named(layers.ZeroPadding1D, "zeros", (1, 2))(inputs)
    x = named(layers.Conv1D, "conv_same_s2", 8, 4, strides=2, padding="same", activation="hard_sigmoid")(x)
    x = named(layers.BatchNormalization, "bn_rows", momentum=0.7)(x)
    x = named(layers.SpatialDropout1D, "no_maps", 0.0)(x)
    x = named(layers.LSTM, "lstm", 7, return_sequences=True)(x)
    x = named(layers.GaussianNoise, "no_noise", 0.0)(x)
    x = named(layers.GRU, "gru", 5, return_sequences=True)(x)
    both = named(layers.LSTM, "lstm2", 3, return_sequences=True, use_bias=False)
    x = named(layers.Bidirectional, "both", both)(x)
    x = named(layers.Cropping1D, "less", (0, 1))(x)
    scaled = named(LayerScale, "scale", 0.7)(named(layers.LayerNormalization, "ln", epsilon=1e-5)(x))
    attended = named(layers.MultiHeadAttention, "self", 2, 4)(scaled, scaled)
    x = named(layers.Add, "past")([x, attended])
    x = named(layers.Activation, "relu", "relu")(x)
    shorter = named(layers.AveragePooling1D, "mean2", 2)(named(layers.MaxPooling1D, "max2", 2, strides=1)(x))
    cross = named(layers.MultiHeadAttention, "cross", 2, 3, value_dim=5, output_shape=7, use_bias=False)
    x = named(layers.Concatenate, "cat")([x, cross(x, shorter, key=shorter * 0.5)])
    x = named(layers.EinsumDense, "einsum", "abc,cd->abd", (6, 6), bias_axes="d", activation="silu")(x)
    x = named(layers.LayerNormalization, "ln_both", axis=(1, 2))(x)
    low = named(layers.Minimum, "low")([x, scaled])
    x = named(layers.Average, "mean3")([x, low, named(layers.Maximum, "high")([x, scaled])])
    x = named(layers.UnitNormalization, "unit")(x) + x[:, :1]
    pooled = [
        named(layers.GRU, "last_gru", 4, use_bias=False)(x),
        named(layers.Bidirectional, "last_both", named(layers.GRU, "gru2", 3))(x),
        named(layers.GlobalAveragePooling1D, "average")(x),
        named(layers.GlobalMaxPooling1D, "max")(named(layers.Softmax, "softmax", axis=1)(x)),
        keras.ops.mean(x, axis=1),
        named(layers.Flatten, "map")(
            named(layers.Cropping2D, "inner", ((1, 1), (0, 2)))(named(layers.Reshape, "as_map", (-1, 3, 2))(x))
        ),
    ]
    return keras.Model(inputs, named(layers.Dense, "logits", 4)(named(layers.Concatenate, "join")(pooled)))


def shaken(model: keras.Model) -> keras.Model:
    """Every variable moved off its initial value, so that a swapped or forgotten one shows; then moving statistics
    that fit the batch, without which an untrained deep network answers in millions and rounding decides."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        noise = generator.normal(0, 0.2, weight.shape)
        weight.assign(np.asarray(weight) * (1 + noise) + noise * (len(weight.shape) == 1 or "bias" in weight.path))
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    with torch.no_grad():
        model(batch(model, dtype=getattr(torch, model.inputs[0].dtype)), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.moving_variance.assign(norm.moving_variance * 1.1 + 0.01)
    return model


def family_model(name: str) -> keras.Model:
    # dropout draws from another generator than Keras', so the comparison needs none
    model = models.build(name, input_shape=(36, 33, 1), n_classes=3, dropout=0.0)
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.0
    return model


NO_GRADIENT = ("conv_same_s2/bias", "depthwise/bias", "self/key/bias")
MODELS = {
    "every_layer": every_layer,
    "rows": rows,
    "cnn/tiny": lambda: family_model("cnn/tiny"),
    "cnn/small": lambda: family_model("cnn/small"),
    "efficientnet_v2/b0": lambda: family_model("efficientnet_v2/b0"),
}


def batch(model: keras.Model, n: int = 4, dtype: torch.dtype = torch.float32, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((n, *model.input_shape[1:]), generator=generator, dtype=torch.float64).to(dtype)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference over the largest value of b."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))


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


def test_frozen_normalization_stands_still_and_thaws():
    model = shaken(MODELS["cnn/tiny"]())
    lowered = lower(model)
    x = batch(model)
    norm = model.get_layer("bn0")
    norm.trainable = False
    before = np.array(norm.moving_mean)
    assert relative(lowered(x, training=True), model(x, training=True)) <= tolerances.LOWERED_OUTPUT
    assert np.array_equal(before, norm.moving_mean)
    norm.trainable = True
    lowered(x, training=True)
    assert not np.array_equal(before, norm.moving_mean)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 1, 3)])
def test_one_value_per_channel_trains_as_keras_does(shape):
    inputs = keras.Input(shape)
    model = shaken(keras.Model(inputs, layers.ReLU(name="r")(layers.BatchNormalization(name="b")(inputs))))
    x = torch.randn(1, *shape)
    expected = [v.detach().clone() for v in (model(x, training=True), model.get_layer("b").moving_variance.value)]
    twin = shaken(keras.models.clone_model(model))
    got = lower(twin)(x, training=True), twin.get_layer("b").moving_variance.value
    assert relative(got[0], expected[0]) == 0 and relative(got[1], expected[1]) == 0


def test_dropout_keeps_the_mean_drops_the_share_and_follows_torch_seed():
    inputs = keras.Input((4, 5, 64))
    for layer, one_draw in (
        (layers.Dropout(0.25, name="d"), ()),
        (layers.Dropout(0.25, noise_shape=(None, 1, 1, 1), name="d"), (1, 2, 3)),
        (layers.SpatialDropout2D(0.25, name="d"), (1, 2)),
    ):
        lowered = lower(keras.Model(inputs, layer(inputs)))
        x = torch.ones(2000, 4, 5, 64)[:, : 4 if one_draw != () else 1]
        torch.manual_seed(3)
        y = lowered(x, training=True)
        torch.manual_seed(3)
        assert torch.equal(y, lowered(x, training=True))
        assert y.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
        assert abs(float((y == 0).float().mean()) - 0.25) < tolerances.DROPPED_SHARE
        for axis in one_draw:
            assert bool((y == y.narrow(axis, 0, 1)).all())
        assert torch.equal(lowered(x), x)


def test_an_unknown_layer_is_called_through_keras():
    inputs = keras.Input((6, 6, 1))
    x = layers.Conv2D(2, 3, name="c")(inputs)
    x = Twice(name="twice")(x) + 1.0  # an operation, not a layer
    x = layers.Conv2D(2, 3, activation="log_softmax", name="odd")(x)
    model = keras.Model(inputs, layers.LeakyReLU(name="leaky")(x))
    lowered = lower(model)
    assert set(lowered.slow_layers) == {"twice", "odd", "leaky"}
    x = batch(model)
    for training in (False, True):
        assert relative(lowered(x, training=training), model(x, training=training)) <= tolerances.LOWERED_OUTPUT


def test_a_value_read_twice_is_not_overwritten():
    inputs = keras.Input((4, 4, 2))
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(3, 1, name="c")(inputs))
    model = keras.Model(inputs, layers.Subtract(name="s")([layers.ReLU(name="r")(x), x]))
    for fold in (False, True):
        got = lower(model, fold=fold)(batch(model))
        assert relative(got, model(batch(model), training=False)) <= tolerances.LOWERED_OUTPUT
        assert float(got.detach().abs().max()) > 0


def test_models_inside_models_and_sequential():
    inner = models.build("cnn/tiny", input_shape=(32, 32, 1), n_classes=3, dropout=0.0)
    inputs = keras.Input((32, 32, 1))
    outer = keras.Model(inputs, layers.Dense(2, name="head")(inner(inputs)))
    sequential = keras.Sequential([keras.Input((8,)), layers.Dense(3), layers.ReLU()])
    for model in (outer, sequential):
        lowered = lower(model)
        assert lowered.fallback == "" and lowered.slow_layers == []
        assert relative(lowered(batch(model)), model(batch(model), training=False)) <= tolerances.LOWERED_OUTPUT


def test_what_cannot_be_walked_runs_as_plain_keras_and_says_why():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    two = [keras.Input((3,)), keras.Input((3,))]
    masked = keras.Input((5, 3))
    cases = {
        "no graph": (Subclassed(), torch.ones(2, 3)),
        "2 inputs": (keras.Model(two, layers.Add()(two)), [torch.ones(2, 3), torch.ones(2, 3)]),
        "mask": (keras.Model(masked, layers.LSTM(2)(layers.Masking()(masked))), torch.ones(2, 5, 3)),
        "policy": (
            keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype="mixed_bfloat16")]),
            torch.ones(2, 3),
        ),
    }
    for reason, (model, x) in cases.items():
        expected = model(x, training=False)
        lowered = lower(model)
        assert reason in lowered.fallback
        assert torch.equal(lowered(x), expected)
        with pytest.raises(ValueError, match="lowered"):
            as_module(model)


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling")
def test_settings_that_no_rule_covers_are_left_to_keras():
    """Each computes something else than the rule of its layer would."""
    inputs, other = keras.Input((6, 4)), keras.ops.ones((4, 3))
    refused = [
        layers.LSTM(3, activation="relu"),
        layers.LSTM(3, dropout=0.5),
        layers.LSTM(3, go_backwards=True),
        layers.GRU(3, reset_after=False),
        layers.GRU(3, recurrent_dropout=0.5),
        layers.Bidirectional(layers.GRU(3), merge_mode="sum"),
        layers.Bidirectional(layers.LSTM(3), backward_layer=layers.LSTM(3, activation="relu", go_backwards=True)),
        layers.LayerNormalization(rms_scaling=True),
        layers.Conv1D(3, 3, padding="causal"),
        layers.BatchNormalization(renorm=True),
        lambda x: layers.LSTM(3)(x, initial_state=[other, other]),
        lambda x: layers.MultiHeadAttention(2, 2)(x, x, use_causal_mask=True),
        lambda x: layers.MultiHeadAttention(2, 2)(x, x, attention_mask=x[:, :, :1] > 0),
        lambda x: layers.MultiHeadAttention(2, 2, use_gate=True)(x, x),
        lambda x: layers.Dense(3, activity_regularizer="l2")(x),
    ]
    for layer in refused:
        model = keras.Model(inputs, layer(inputs))
        lowered = lower(model)
        assert lowered.fallback == "" and len(lowered.slow_layers) == 1
        assert relative(lowered(batch(model)), model(batch(model), training=False)) <= tolerances.LOWERED_OUTPUT


@keras.saving.register_keras_serializable("tests")
class Own(Twice):
    """A layer that passes for one of the package's."""

    __module__ = "birdnet_fs.models.somewhere"
    through_keras, dtypes = 0, ()

    def __call__(self, *args, **kwargs):
        Own.through_keras += 1
        return super().__call__(*args, **kwargs)

    def call(self, x, training=False):
        Own.dtypes = (*Own.dtypes, x.dtype)
        return super().call(x, training)


def test_own_layers_skip_keras_and_know_whether_they_train():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, Own(name="own")(inputs))
    lowered, before = lower(model), Own.through_keras
    assert lowered.slow_layers == []
    x = torch.ones(2, 3)
    assert lowered(x).unique().tolist() == [3.0] and lowered(x, training=True).unique().tolist() == [2.0]
    assert Own.through_keras == before


def test_own_layers_of_float32_get_float32_under_autocast():
    inputs = keras.Input((3,))
    lowered = lower(keras.Model(inputs, Own(name="own")(layers.Dense(3, name="d")(inputs))))
    with torch.autocast("cpu", torch.bfloat16):
        assert lowered(torch.ones(2, 3)).dtype == torch.float32
    assert Own.dtypes[-1] == torch.float32


def test_several_outputs_are_a_tuple():
    inputs = keras.Input((6, 5, 2))
    x = layers.Conv2D(3, 3, name="c")(inputs)
    relu = layers.ReLU(name="r")(x)
    outputs = {"map": x, "relu": relu, "mean": layers.GlobalAveragePooling2D(name="m")(relu)}
    for structure in (outputs, list(outputs.values())):
        model = keras.Model(inputs, structure)
        x = batch(model)
        expected = keras.tree.flatten(model(x, training=False))
        for fold in (False, True):
            got = lower(model, fold=fold)(x)
            assert isinstance(got, tuple) and len(got) == 3
            assert all(relative(a, b) <= tolerances.LOWERED_OUTPUT for a, b in zip(got, expected, strict=True))
    outer = keras.Model(inputs, layers.Dense(2)(model(inputs)[2]))  # several outputs inside a graph
    assert lower(outer).slow_layers == []
    assert relative(lower(outer)(batch(outer)), outer(batch(outer), training=False)) <= tolerances.LOWERED_OUTPUT


def test_zeros_in_front_of_a_convolution_become_its_padding():
    inputs = keras.Input((9, 8, 2))
    for pad, fused in (((1, 2), True), (((1, 0), (2, 2)), False)):
        x = layers.ZeroPadding2D(pad, name="p")(inputs)
        model = keras.Model(inputs, layers.Conv2D(3, 3, strides=2, name="c")(x))
        module = as_module(model)
        assert relative(module(batch(model)), model(batch(model), training=False)) <= tolerances.LOWERED_OUTPUT
        kinds = [node.kind() for node in torch.jit.trace(module, batch(model)).inlined_graph.nodes()]
        assert ("aten::pad" not in kinds) == fused


@pytest.mark.filterwarnings("ignore")  # of tracing
def test_zeros_in_front_of_max_pooling_become_its_padding_only_where_no_value_is_below():
    inputs = keras.Input((9, 8, 2))
    for activation, pad, fused in (("relu", 1, True), ("relu", 2, False), ("tanh", 1, False)):
        x = layers.ZeroPadding2D(pad, name="p")(layers.Activation(activation, name="a")(inputs - 1.0))
        model = keras.Model(inputs, layers.MaxPooling2D(3, 2, name="m")(x))
        module = as_module(model)
        assert relative(module(batch(model)), model(batch(model), training=False)) == 0
        kinds = [node.kind() for node in torch.jit.trace(module, batch(model)).inlined_graph.nodes()]
        assert ("aten::pad" not in kinds) == fused


def test_large_kernels_are_stored_as_torch_stores_them(monkeypatch):
    monkeypatch.setattr(rules_conv, "LARGE_KERNEL", 100)
    model, plain = MODELS["cnn/tiny"](), MODELS["cnn/tiny"]()
    plain.set_weights(model.get_weights())
    lowered, folded = lower(model), lower(model, fold=True)
    kernel = model.get_layer("block1_conv1").kernel.value
    assert kernel.permute(3, 2, 0, 1).is_contiguous()
    x = batch(model)
    assert relative(folded(x), plain(x, training=False)) <= tolerances.LOWERED_OUTPUT
    assert relative(lowered(x, training=True), plain(x, training=True)) <= tolerances.LOWERED_TRAINING
    lowered(x, training=True).sum().backward()
    assert kernel.grad.stride() == kernel.stride()


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


# ---------------------------------------------------------------- as a module, for exporters


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
