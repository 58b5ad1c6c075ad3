"""The lowered graph computes what plain Keras computes; the references are Keras itself and float64 torch autograd."""

import keras
import numpy as np
import pytest
import tolerances
import torch
from keras import layers

from birdnet_fs import models
from birdnet_fs.models.lowering import lower


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


def shaken(model: keras.Model) -> keras.Model:
    """Every variable moved off its initial value, so that a swapped or forgotten one shows; then moving statistics
    that fit the batch, without which an untrained deep network answers in millions and rounding decides."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        noise = generator.normal(0, 0.2, weight.shape)
        weight.assign(np.asarray(weight) * (1 + noise) + (noise if len(weight.shape) == 1 else 0))
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


NO_GRADIENT = ("conv_same_s2/bias", "depthwise/bias")
MODELS = {
    "every_layer": every_layer,
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


@pytest.mark.parametrize("name", ["every_layer", "cnn/tiny"])
def test_gradients_against_float64_keras(name):
    model = shaken(MODELS[name]())
    keras.config.set_dtype_policy("float64")
    try:
        exact = every_layer("float64") if name == "every_layer" else MODELS[name]()
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
        # the bias in front of a normalisation has no gradient, only rounding
        pairs = [(a.value.grad, b.value.grad) for a, b in pairs if b.path not in NO_GRADIENT]
        errors.append([relative(a, b) for a, b in pairs])
    assert exact.get_layer("bn_bare" if name == "every_layer" else "bn0").moving_mean.value.dtype == torch.float64
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


def test_frozen_normalisation_stands_still_and_thaws():
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


def test_one_value_per_channel_trains_as_keras_does():
    inputs = keras.Input((3,))
    model = shaken(keras.Model(inputs, layers.ReLU(name="r")(layers.BatchNormalization(name="b")(inputs))))
    x = torch.randn(1, 3)
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
    assert {"twice", "odd", "leaky"} < set(lowered.slow_layers) and "c" not in lowered.slow_layers
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
        assert float(got.abs().max()) > 0


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
        "one input": (keras.Model(two, layers.Add()(two)), [torch.ones(2, 3), torch.ones(2, 3)]),
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


def test_autocast_gives_float32_logits_near_float32():
    model = MODELS["cnn/tiny"]()
    lowered = lower(model)
    x = batch(model)
    with torch.autocast("cpu", torch.bfloat16):
        y = lowered(x, training=True)
    assert y.dtype == torch.float32
    y.sum().backward()
    assert all(bool(torch.isfinite(w.value.grad).all()) for w in model.trainable_weights)
    with torch.autocast("cpu", torch.bfloat16):
        assert 0 < relative(lowered(x), model(x, training=False)) < tolerances.BFLOAT16_OUTPUT


def test_arrays_are_taken_as_input():
    model = MODELS["cnn/tiny"]()
    x = batch(model)
    assert torch.equal(lower(model)(x.double().numpy()), lower(model)(x))
