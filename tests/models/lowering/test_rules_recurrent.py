"""Rules for LSTM and GRU against plain Keras."""

import keras
import pytest
import tolerances
from keras import layers
from lowered_networks import batch, relative, shaken

from birdnet_fs.models.lowering.lower import lower


def recurrent(kind: type, *, both: bool, sequences: bool, **settings) -> keras.Model:
    inputs = keras.Input((7, 5))
    layer = kind(6, return_sequences=sequences, name="loop", **settings)
    return keras.Model(inputs, layers.Bidirectional(layer, name="both")(inputs) if both else layer(inputs))


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
def test_fused_kernels_compute_as_keras(kind: type, both: bool, sequences: bool, use_bias: bool) -> None:
    model = shaken(recurrent(kind, both=both, sequences=sequences, use_bias=use_bias))
    lowered, x = lower(model), batch(model)
    assert lowered.slow_layers == []
    for training in (False, True):
        assert relative(lowered(x, training=training), model(x, training=training)) <= tolerances.LOWERED_OUTPUT


@pytest.mark.parametrize("settings", [{"activation": "relu"}, {"recurrent_dropout": 0.1}, {"go_backwards": True}])
def test_cells_that_torch_does_not_have_are_called_through_keras(settings: dict) -> None:
    model = recurrent(layers.GRU, both=False, sequences=True, **settings)
    lowered, x = lower(model), batch(model)
    assert lowered.slow_layers == ["loop"]
    assert relative(lowered(x), model(x, training=False)) <= tolerances.LOWERED_OUTPUT
