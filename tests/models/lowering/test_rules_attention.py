"""Rules for attention and einsum layers against plain Keras."""

import keras
import pytest
import tolerances
from keras import layers
from lowered_networks import batch, relative, shaken

from birdnet_fs.models.lowering.lower import lower


def attention(use_bias: bool = True, **call) -> keras.Model:
    inputs = keras.Input((7, 8))
    memory = layers.Dense(8, name="memory")(layers.Cropping1D((1, 2))(inputs))
    layer = layers.MultiHeadAttention(2, 3, value_dim=5, use_bias=use_bias, name="attention")
    return keras.Model(inputs, layer(inputs, memory, **call))


@pytest.mark.parametrize("use_bias", [False, True])
def test_attention_to_other_rows_computes_as_keras(use_bias: bool) -> None:
    model = shaken(attention(use_bias))
    lowered, x = lower(model), batch(model)
    assert lowered.slow_layers == []
    for training in (False, True):
        assert relative(lowered(x, training=training), model(x, training=training)) <= tolerances.LOWERED_OUTPUT


def test_attention_with_a_mask_is_called_through_keras() -> None:
    model = shaken(attention(use_causal_mask=True))
    lowered, x = lower(model), batch(model)
    assert lowered.slow_layers == ["attention"]
    assert relative(lowered(x), model(x, training=False)) <= tolerances.LOWERED_OUTPUT


@pytest.mark.parametrize("activation", ["relu", "softmax"])
def test_einsum_layers_compute_as_keras(activation: str) -> None:
    inputs = keras.Input((7, 8))
    layer = layers.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d", activation=activation, name="einsum")
    model = shaken(keras.Model(inputs, layer(inputs)))
    lowered, x = lower(model), batch(model)
    assert lowered.slow_layers == ([] if activation == "relu" else ["einsum"])
    assert relative(lowered(x), model(x, training=False)) <= tolerances.LOWERED_OUTPUT
