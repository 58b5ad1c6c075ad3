"""Traversal of the graph: nested models, several outputs, unknown layers, and models that cannot be lowered."""

import keras
import pytest
import tolerances
import torch
from keras import layers
from lowered_networks import Twice, batch, relative

from birdnet_fs import models
from birdnet_fs.models.lowering.lower import as_module, lower


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
    """A layer with the module name of a layer of the package."""

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
