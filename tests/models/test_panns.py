"""PANNs against plain PyTorch with the same weights, and against the published parameter counts."""

import keras
import numpy as np
import pytest
import tolerances
import torch
from narrow_panns import decibels, narrow
from reference_panns import CNN14, MOBILENET_V1, MOBILENET_V2, NETWORKS, Panns, with_fitting_statistics
from torch import nn

from birdnet_fs import models
from birdnet_fs.models import panns

COUNTS = {"cnn14": 80_753_615, "mobilenet_v1": 4_796_303, "mobilenet_v2": 4_075_343}  # published, 527 classes


def copied(network: Panns, model: keras.Model) -> keras.Model:
    """The weights of a PyTorch twin by order: convolutions, norms and dense layers stand in the same order in both."""
    layers = {
        nn.Conv2d: [layer for layer in model.layers if "Conv2D" in type(layer).__name__],
        nn.BatchNorm2d: [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)],
        nn.Linear: [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)],
    }
    for kind, ours in layers.items():
        theirs = [module for module in network.modules() if type(module) is kind]
        for layer, module in zip(ours, theirs, strict=True):
            if kind is nn.BatchNorm2d:
                layer.set_weights([module.weight, module.bias, module.running_mean, module.running_var])
            elif kind is nn.Linear:
                layer.set_weights([module.weight.T, module.bias])
            else:
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                layer.set_weights([module.weight.permute(2, 3, *((0, 1) if depthwise else (1, 0)))])
    return model


@pytest.mark.parametrize("n_frames, n_mels", [(67, 37), (32, 33)])
@pytest.mark.parametrize(
    "variant, width",
    [
        *(("cnn14", 8), ("mobilenet_v1", 8), ("mobilenet_v2", 4)),
        *(pytest.param(variant, 1, marks=pytest.mark.slow) for variant in NETWORKS),
    ],
)
def test_same_answers_as_plain_pytorch(variant, width, n_frames, n_mels, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setitem(panns.VARIANTS, variant, narrow(variant, width))
    x = decibels(4, n_frames, n_mels)
    network = with_fitting_statistics(NETWORKS[variant](n_mels, 5, width), x)
    model = models.build(f"panns/{variant}", input_shape=(n_frames, n_mels, 1), n_classes=5)
    copied(network, model)
    embedded = keras.Model(model.input, model.get_layer("embedding").output)
    with torch.no_grad():
        pairs = [(model(x, training=False), network(x)), (embedded(x, training=False), network.embedding(x))]
    for got, expected in pairs:
        assert float(expected.std()) > 0.01
        assert float((got - expected).abs().max()) <= tolerances.PYTORCH_TWIN * max(1.0, float(expected.abs().max()))


def by_hand(variant: str) -> int:
    """Trainable numbers: kernels without bias, 2 for each channel of a BatchNorm, two dense layers with bias."""
    total, n_in = 2 * 64, 1  # bn0 of 64 mels
    if variant == "cnn14":
        for n_out in CNN14:
            total += 9 * n_in * n_out + 9 * n_out * n_out + 2 * 2 * n_out
            n_in = n_out
        return total + (2048 + 1) * 2048 + (2048 + 1) * 527
    total, n_in = total + 9 * 32 + 2 * 32, 32
    if variant == "mobilenet_v1":
        for n_out, _ in MOBILENET_V1:
            total += 9 * n_in + 2 * n_in + n_in * n_out + 2 * n_out
            n_in = n_out
        return total + (1024 + 1) * 1024 + (1024 + 1) * 527
    for expand, n_out, n_blocks, _ in MOBILENET_V2:
        for _ in range(n_blocks):
            inside = n_in * expand
            total += (n_in * inside + 2 * inside if expand > 1 else 0) + 9 * inside + 2 * inside
            total += inside * n_out + 2 * n_out
            n_in = n_out
    return total + 320 * 1280 + 2 * 1280 + (1280 + 1) * 1024 + (1024 + 1) * 527


@pytest.mark.parametrize("variant", COUNTS)
def test_parameter_counts_are_the_published_ones(variant):
    """The published numbers count what is trained: neither moving statistics (torch's buffers, Keras' count_params
    has them) nor the front-end, whose STFT and mel kernels are Parameters there, but frozen."""
    model = models.build(f"panns/{variant}", input_shape=(101, 64, 1), n_classes=527)
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    with torch.device("meta"):
        network = NETWORKS[variant]()
    assert trainable == by_hand(variant) == sum(p.numel() for p in network.parameters()) == COUNTS[variant]
    n_normalized = sum(norm.num_features for norm in network.modules() if isinstance(norm, nn.BatchNorm2d))
    assert model.count_params() == trainable + 2 * n_normalized


@pytest.mark.parametrize(
    ("variant", "rates"), [("cnn14", [*[0.2] * 6, 0.5]), ("mobilenet_v1", [0.5]), ("mobilenet_v2", [])]
)
def test_dropout_and_spec_augment_are_the_published_ones(variant, rates, monkeypatch):
    monkeypatch.setitem(panns.VARIANTS, variant, narrow(variant, 4))
    model = models.build(f"panns/{variant}", input_shape=(64, 64, 1), n_classes=2, dropout=0.125)
    drops = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert drops == [*rates, 0.125]
    masks = model.get_layer("spec_augment")
    assert (masks.time_drop_width, masks.n_time_stripes, masks.mel_drop_width, masks.n_mel_stripes) == (64, 2, 8, 2)
    assert [layer.name for layer in model.layers][1:3] == ["bn0", "spec_augment"]
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(norm.epsilon, norm.momentum) for norm in norms} == {(1e-5, 0.9)}
