"""Rules for convolutions, BatchNormalization and padding against plain Keras."""

import keras
import numpy as np
import pytest
import tolerances
import torch
from keras import layers
from lowered_networks import MODELS, batch, relative, shaken

from birdnet_fs.models.lowering import rules_conv
from birdnet_fs.models.lowering.lower import as_module, lower


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
