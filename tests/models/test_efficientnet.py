"""EfficientNet B0 against keras.applications: the same parameters, and the same answers with the same weights."""

import keras
import tolerances
import torch

from birdnet_fs import models


def test_parameters_of_the_birdclef_2025_network():
    """4,048,991 of the network on one channel, standardization and moving statistics counted, and 206 classes."""
    assert models.build("efficientnet/b0", input_shape=(64, 64, 1), n_classes=206).count_params() == 4_312_877


def test_same_answers_as_keras_with_the_same_weights():
    whole = models.build("efficientnet/b0", input_shape=(64, 61, 1), n_classes=1)
    ours = keras.Model(whole.input, whole.get_layer("embedding").output)
    theirs = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(64, 61, 1), pooling="avg")
    x = torch.randn(4, 64, 61, 1)
    for layer in theirs.layers:  # moving statistics that fit, else the signal dies on its way
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    with torch.no_grad():
        scaled = keras.Model(theirs.layers[2].output, theirs.output)  # behind their 1 / 255 and standardization
        scaled(x, training=True)
        own = [w for w in ours.weights if not w.path.startswith("input_statistics")]
        others = [w for w in theirs.weights if not w.path.startswith("normalization")]
        for a, b in zip(own, others, strict=True):
            assert a.shape == b.shape, (a.path, b.path)
            a.assign(b)
        got, expected = ours(x, training=False), scaled(x, training=False)
    assert float(expected.std()) > 0.1
    assert float((got - expected).abs().max()) <= tolerances.KERAS_TWIN


def test_standardization_uses_its_statistics():
    model = models.build("efficientnet/b0", input_shape=(32, 32, 2), n_classes=1)
    layer = model.get_layer("input_statistics")
    layer.mean.assign([1.0, -2.0])
    layer.variance.assign([4.0, 0.25])
    x = torch.randn(2, 32, 32, 2)
    expected = (x - torch.tensor([1.0, -2.0])) / torch.tensor([2.0, 0.5])
    torch.testing.assert_close(layer(x), expected)
