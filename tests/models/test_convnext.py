"""ConvNeXt against plain PyTorch in torchvision's structure and against keras.applications, with the same weights."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import tolerances
import torch
import torch_twin
from convnext_twin import ConvNeXt

from birdnet_fs import models
from birdnet_fs.models import convnext

PARTS = {"": "layer_scale", "block.0": "depthwise_conv", "block.2": "norm", "block.3": "expand", "block.5": "project"}
SMALL = {"n_blocks": (1, 1, 2, 1), "channels": (16, 24, 32, 48)}


def our_name(name: str) -> str:
    if name == "fc":
        return "logits"
    _, place, index, part = [*name.split(".", 3), ""][:4]
    if int(place) % 2:
        return f"block{int(place) // 2 + 1}{'a' if int(index) == 26 else ''}{chr(97 + int(index) % 26)}_{PARTS[part]}"
    names = (
        ("stem_conv", "stem_norm")
        if place == "0"
        else tuple(f"down{int(place) // 2 + 1}_{p}" for p in ("norm", "conv"))
    )
    return names[int(index)]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(convnext.VARIANTS, "tiny", dataclasses.replace(convnext.VARIANTS["tiny"], **SMALL))


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def test_parameter_count_is_the_published_one():
    """All but the last layer, one channel: torchvision's `features`. There are no moving statistics."""
    model = models.build("convnext/tiny", input_shape=(64, 64, 1), n_classes=1)
    assert trainable(model) - (768 + 1) == 27_815_520
    assert model.count_params() == trainable(model)


@pytest.mark.parametrize(
    ("variant", "published"),
    [("tiny", 28_589_128), ("small", 50_223_688), ("base", 88_591_464), ("large", 197_767_336)],
)
def test_sizes_have_the_parameters_of_torchvision(variant, published):
    """As torchvision 0.28 counts them: three channels, 1,000 classes, and the last norm, which is not in ours."""
    with keras.device("meta"):  # the large network would take 800 MB
        model = models.build(f"convnext/{variant}", input_shape=(64, 64, 3), n_classes=1000)
    width = convnext.VARIANTS[variant].channels[-1]
    assert trainable(model) + 2 * width == published
    rates = [layer.rate for layer in model.layers if layer.name.endswith("stochastic_depth")]
    assert rates[-1] == {"tiny": 0.1, "small": 0.4, "base": 0.5, "large": 0.5}[variant]
    names = [layer.name for layer in model.layers]
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names) and len(set(names)) == len(names)


def test_a_stage_of_27_blocks_answers_as_plain_pytorch(monkeypatch):
    size = {"n_blocks": (1, 1, 27, 1), "channels": (8, 12, 16, 24)}
    monkeypatch.setitem(convnext.VARIANTS, "small", dataclasses.replace(convnext.VARIANTS["small"], **size))
    torch.manual_seed(0)
    x = torch.randn(3, 1, 64, 64)
    theirs = torch_twin.with_fitting_statistics(ConvNeXt(5, size["n_blocks"], size["channels"]), x)
    ours = models.build("convnext/small", input_shape=(64, 64, 1), n_classes=5)
    torch_twin.copy(theirs, ours, our_name)
    assert torch_twin.largest_difference(ours, theirs, x) <= tolerances.PYTORCH_TWIN


@pytest.mark.parametrize("shape", [(67, 45), (64, 96)])
def test_same_answers_as_plain_pytorch_with_the_same_weights(shape):
    torch.manual_seed(0)
    x = torch.randn(3, 1, *shape)
    theirs = torch_twin.with_fitting_statistics(ConvNeXt(5), x)
    ours = models.build("convnext/tiny", input_shape=(*shape, 1), n_classes=5)
    torch_twin.copy(theirs, ours, our_name)
    assert torch_twin.largest_difference(ours, theirs, x) <= tolerances.PYTORCH_TWIN


def test_same_answers_as_keras_with_the_same_weights_up_to_its_last_norm():
    keras.utils.set_random_seed(0)
    shape = (64, 64, 3)
    theirs = keras.applications.ConvNeXtTiny(
        include_top=False, weights=None, input_shape=shape, pooling="avg", include_preprocessing=False
    )
    assert theirs.layers[-1].count_params() == 1_536  # the last norm
    theirs = keras.Model(theirs.input, theirs.layers[-2].output)
    whole = models.build("convnext/tiny", input_shape=shape, n_classes=1)
    ours = keras.Model(whole.input, whole.get_layer("embedding").output)
    generator = np.random.default_rng(0)
    for a, b in zip(ours.trainable_weights, theirs.trainable_weights, strict=True):
        value = np.asarray(b) if len(b.shape) > 1 else generator.uniform(0.5, 1.5, b.shape)
        b.assign(value)
        depthwise = a.path.endswith("depthwise_conv/kernel")  # a grouped convolution there
        a.assign(value.transpose(0, 1, 3, 2) if depthwise else value)
    x = torch.randn(4, *shape)
    with torch.no_grad():
        got, expected = ours(x, training=False), theirs(x, training=False)
    assert float((got - expected).abs().max() / expected.abs().max()) <= tolerances.PYTORCH_TWIN


def test_frames_and_mels_that_fill_no_step_of_4_are_not_seen(small):
    """The stem pads nothing: 67 x 45 features are worth 64 x 44; the map then halves as torch's does, rounded down."""
    odd, even = (
        models.build("convnext/tiny", input_shape=shape, n_classes=3, dropout=0.0)
        for shape in ((67, 45, 1), (64, 44, 1))
    )
    odd.set_weights(even.get_weights())
    x = torch.randn(2, 67, 45, 1)
    with torch.no_grad():
        got, expected = odd(x, training=False), even(x[:, :64, :44], training=False)
    # not bit by bit: a machine may choose another kernel for another size
    assert float((got - expected).abs().max() / expected.abs().max()) <= tolerances.PYTORCH_TWIN
    assert odd.get_layer("block4a_add").output.shape[1:3] == (2, 1)


def test_stochastic_depth_rises_linearly_to_a_tenth_and_blocks_start_as_the_identity():
    model = models.build("convnext/tiny", input_shape=(32, 32, 1), n_classes=1)
    rates = [layer.rate for layer in model.layers if layer.name.endswith("stochastic_depth")]
    assert rates == pytest.approx([0.1 * i / 17 for i in range(1, 18)])
    scales = [layer.gamma.numpy() for layer in model.layers if layer.name.endswith("layer_scale")]
    assert [len(scale) for scale in scales] == [96] * 3 + [192] * 3 + [384] * 9 + [768] * 3
    assert {float(value) for scale in scales for value in scale} == {float(np.float32(1e-6))}
    kernel = model.get_layer("block3b_expand").kernel.numpy()
    assert np.std(kernel) == pytest.approx(0.02, rel=tolerances.FRESH_DEVIATION)
    assert not np.array_equal(kernel, model.get_layer("block3c_expand").kernel.numpy())
