"""EfficientNetV2 against keras.applications: the same parameters, and the same answers with the same weights."""

import math

import keras
import pytest
import tolerances
import torch

from birdnet_fs import models

REFERENCE = {
    "b0": keras.applications.EfficientNetV2B0,
    "b1": keras.applications.EfficientNetV2B1,
    "b2": keras.applications.EfficientNetV2B2,
    "b3": keras.applications.EfficientNetV2B3,
    "s": keras.applications.EfficientNetV2S,
}


def pair(variant: str, n_channels: int) -> tuple[keras.Model, keras.Model]:
    """Our network up to the embedding, and Keras' own, both with fresh weights."""
    shape = (64, 64, n_channels)
    whole = models.build(f"efficientnet_v2/{variant}", input_shape=shape, n_classes=1)
    ours = keras.Model(whole.input, whole.get_layer("embedding").output)
    theirs = REFERENCE[variant](
        include_top=False, weights=None, input_shape=shape, pooling="avg", include_preprocessing=False
    )
    return ours, theirs


@pytest.mark.parametrize(
    ("variant", "n_channels", "n_parameters"),
    [
        ("b0", 1, 5_918_736),
        ("b0", 3, 5_919_312),
        pytest.param("s", 1, 20_330_928, marks=pytest.mark.slow),
        pytest.param("s", 3, 20_331_360, marks=pytest.mark.slow),
    ],
)
def test_parameter_counts_are_the_published_ones(variant, n_channels, n_parameters):
    ours, theirs = pair(variant, n_channels)
    assert ours.count_params() == theirs.count_params() == n_parameters


@pytest.mark.parametrize("variant", [pytest.param(v, marks=() if v == "b0" else pytest.mark.slow) for v in REFERENCE])
def test_same_answers_as_keras_with_the_same_weights(variant):
    ours, theirs = pair(variant, 1)
    x = torch.randn(4, 64, 64, 1)
    for layer in theirs.layers:  # moving statistics that fit, else the signal dies on its way
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    with torch.no_grad():
        theirs(x, training=True)
        for a, b in zip(ours.weights, theirs.weights, strict=True):
            assert a.shape == b.shape, (a.path, b.path)
            a.assign(b)
        got, expected = ours(x, training=False), theirs(x, training=False)
    assert float(expected.std()) > 0.1
    assert float((got - expected).abs().max()) <= tolerances.KERAS_TWIN


@pytest.mark.parametrize(
    ("name", "published"), [("efficientnet/b0_torch", 5_288_548), ("efficientnet_v2/s_torch", 21_458_488)]
)
def test_networks_of_torchvision_have_its_parameters(name, published):
    """As torchvision 0.28 counts them: three channels, 1,000 classes."""
    with keras.device("meta"):
        model = models.build(name, input_shape=(64, 64, 3), n_classes=1000)
    assert sum(math.prod(w.shape) for w in model.trainable_weights) == published


def test_stochastic_depth_falls_linearly_to_the_published_survival():
    model = models.build("efficientnet_v2/b0", input_shape=(64, 64, 1), n_classes=1)
    rates = {layer.name: layer.rate for layer in model.layers if layer.name.endswith("stochastic_depth")}
    # 21 blocks; block 2b is the third: its branch is dropped with .2 * 2 / 21, the last with .2 * 20 / 21
    assert rates["block2b_stochastic_depth"] == pytest.approx(0.2 * 2 / 21)
    assert rates["block6h_stochastic_depth"] == pytest.approx(0.2 * 20 / 21)
    assert len(rates) == 21 - 6  # not in the first block of a stage, where stride or width changes
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(norm.epsilon, norm.momentum) for norm in norms} == {(1e-3, 0.9)}
