"""Conversion of the layers of every quantizable family, and layers that are refused."""

import keras
import pytest
import tolerances
import torch
from quantized_networks import NAMES, features, measured, network

from birdnet_fs.core.errors import UserError
from birdnet_fs.models.quantization import fake_quant, rules
from birdnet_fs.models.quantization.convert import is_quantized, quantize, set_phase
from birdnet_fs.models.quantization.fake_quant import (
    MEASURE,
)


@pytest.mark.parametrize("name", NAMES)
def test_folding_changes_nothing_and_rounding_little(name, monkeypatch):
    model = network(name)
    x = features(model)
    made = quantize(model)
    assert is_quantized(made) and not is_quantized(model)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in made.layers)
    assert made.name == model.name and made.output_shape == model.output_shape
    with torch.no_grad():
        expected, rounded_weights = model(x), measured(made, x)(x)
        monkeypatch.setattr(fake_quant, "fake_quantize_kernel", lambda kernel, axis: kernel)
        set_phase(made, MEASURE)
        exact = made(x)
    largest = float(expected.abs().max())
    assert float((exact - expected).abs().max()) < tolerances.FOLDED * largest
    assert 0 < float((rounded_weights - expected).abs().mean()) < tolerances.EIGHT_BITS * largest


@pytest.mark.parametrize(
    ("name", "words"),
    [("vit/tiny", "has a layer .* does not support"), ("rnn/gru", "'input_bn' on .* 3 axes")],
)
def test_a_layer_without_a_counterpart_is_named(name, words):
    with pytest.raises(UserError, match=words) as raised:
        quantize(network(name))
    assert "--precision int8" in str(raised.value)


def test_a_kernel_too_large_for_the_converter_is_refused(monkeypatch):
    monkeypatch.setattr(rules, "MOST_WEIGHTS", 48 * 48 * 9)
    quantize(network("cnn/tiny"))
    monkeypatch.setattr(rules, "MOST_WEIGHTS", 48 * 48 * 9 - 1)
    with pytest.raises(UserError, match=r"a kernel of 20,736 numbers in 'block3_conv2', more than 20,735,"):
        quantize(network("cnn/tiny"))
