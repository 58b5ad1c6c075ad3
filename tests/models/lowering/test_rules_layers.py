"""Rules for simple layers against plain Keras."""

import keras
import pytest
import tolerances
import torch
from keras import layers
from lowered_networks import batch, relative, shaken

from birdnet_fs.models.blocks import LayerScale
from birdnet_fs.models.lowering.lower import lower


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


SIMPLE = {
    "dense": lambda: layers.Dense(3, activation="gelu"),
    "dense_softmax": lambda: layers.Dense(3, activation="softmax"),
    "layer_norm": lambda: layers.LayerNormalization(axis=(2, 3)),
    "layer_scale": lambda: LayerScale(0.5),
    "softmax": lambda: layers.Softmax(axis=1),
    "unit_length": lambda: layers.UnitNormalization(),
    "mean": lambda: layers.GlobalAveragePooling2D(keepdims=True),
    "maximum": lambda: layers.GlobalMaxPooling2D(),
    "cropping": lambda: layers.Cropping2D(((1, 0), (0, 2))),
    "rescaling": lambda: layers.Rescaling(2.0, -1.0),
    "reshape": lambda: layers.Reshape((-1, 2)),
    "flatten": lambda: layers.Flatten(),
    "permute": lambda: layers.Permute((3, 1, 2)),
}


@pytest.mark.parametrize("convolved", [False, True], ids=["channels_last", "channels_first"])
@pytest.mark.parametrize("name", SIMPLE)
def test_simple_layers_compute_as_keras_in_both_orders_of_axes(name, convolved):
    inputs = keras.Input((6, 5, 4))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(inputs) if convolved else inputs
    model = shaken(keras.Model(inputs, SIMPLE[name]()(x)))
    lowered, x = lower(model), batch(model)
    assert lowered.slow_layers == []
    assert relative(lowered(x), model(x, training=False)) <= tolerances.LOWERED_OUTPUT


@pytest.mark.parametrize("merge", [layers.Add, layers.Multiply, layers.Maximum, layers.Average, layers.Concatenate])
def test_merges_of_three_compute_as_keras(merge):
    inputs = keras.Input((6, 5, 4))
    others = [layers.Conv2D(4, 3, padding="same", name=f"conv{i}")(inputs) for i in range(2)]
    model = keras.Model(inputs, merge()([inputs, *others]))
    lowered, x = lower(model), batch(model)
    assert lowered.slow_layers == []
    assert relative(lowered(x), model(x, training=False)) <= tolerances.LOWERED_OUTPUT
