"""ResNet-18, -34 and -50 against a plain PyTorch network in torchvision's structure, and the counts of ANIMAL-SPOT."""

import re

import keras
import numpy as np
import pytest
import tolerances
import torch
import torch_twin
from resnet_twin import ResNet

from birdnet_fs import models

PARTS = {"conv1": "first_conv", "bn1": "first_bn", "conv2": "second_conv", "bn2": "second_bn"}
PARTS |= {"conv3": "third_conv", "bn3": "third_bn", "downsample.0": "shortcut_conv", "downsample.1": "shortcut_bn"}


def our_name(name: str) -> str:
    if found := re.fullmatch(r"layer(\d)\.(\d)\.(.*)", name):
        return f"block{found[1]}{chr(97 + int(found[2]))}_{PARTS[found[3]]}"
    return {"conv1": "stem_conv", "bn1": "stem_bn", "fc": "logits"}[name]


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    ("variant", "n_classes", "n_parameters"),
    [("18", 2, 11_171_266), ("18", 13, 11_176_909), ("18_max_pool_0", 13, 11_181_133)],
)
def test_parameter_counts_are_the_published_ones(variant, n_classes, n_parameters):
    """Trainable numbers, the last layer among them; the moving statistics (torch: buffers) are not counted."""
    model = models.build(f"resnet/{variant}", input_shape=(64, 64, 1), n_classes=n_classes)
    assert trainable(model) == n_parameters


# odd and even sides, because torch's and Keras' paddings part there
@pytest.mark.parametrize("shape", [(61, 46), (64, 35)])
@pytest.mark.parametrize(("variant", "max_pool"), [("18", 1), ("18_max_pool_0", 0), ("18_max_pool_2", 2)])
def test_same_answers_as_plain_pytorch_with_the_same_weights(variant, max_pool, shape):
    torch.manual_seed(0)
    x = torch.randn(3, 1, *shape)
    theirs = torch_twin.with_fitting_statistics(ResNet(5, max_pool=max_pool), x)
    ours = models.build(f"resnet/{variant}", input_shape=(*shape, 1), n_classes=5)
    torch_twin.copy(theirs, ours, our_name)
    assert trainable(ours) == sum(p.numel() for p in theirs.parameters())
    assert torch_twin.largest_difference(ours, theirs, x) <= tolerances.PYTORCH_TWIN


@pytest.mark.parametrize(("variant", "bottleneck"), [("34", False), ("50", True)])
def test_deeper_networks_answer_as_plain_pytorch(variant, bottleneck):
    torch.manual_seed(0)
    x = torch.randn(2, 1, 61, 46)
    theirs = torch_twin.with_fitting_statistics(ResNet(5, (3, 4, 6, 3), bottleneck=bottleneck), x)
    ours = models.build(f"resnet/{variant}", input_shape=(61, 46, 1), n_classes=5)
    torch_twin.copy(theirs, ours, our_name)
    assert torch_twin.largest_difference(ours, theirs, x) <= tolerances.PYTORCH_TWIN


@pytest.mark.parametrize(("variant", "published"), [("18", 11_689_512), ("34", 21_797_672), ("50", 25_557_032)])
def test_networks_have_the_parameters_of_torchvision(variant, published):
    """As torchvision 0.28 counts them: three channels, 1,000 classes."""
    with keras.device("meta"):
        assert trainable(models.build(f"resnet/{variant}", input_shape=(64, 64, 3), n_classes=1000)) == published


def test_without_max_pooling_the_second_option_keeps_maps_of_twice_the_length():
    sides = {}
    for variant in ("18", "18_max_pool_0", "18_max_pool_2"):
        model = models.build(f"resnet/{variant}", input_shape=(128, 256, 1), n_classes=2)
        sides[variant] = model.get_layer("block4b_relu2").output.shape[1:3]
    assert sides == {"18": (4, 8), "18_max_pool_0": (4, 8), "18_max_pool_2": (8, 16)}


def test_kernels_start_as_he_et_al_2015():
    """Deviation sqrt(2 / fan_out), and no two layers alike."""
    model = models.build("resnet/18", input_shape=(32, 32, 1), n_classes=2)
    kernel = model.get_layer("block3b_first_conv").kernel.numpy()
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 256)), rel=tolerances.FRESH_DEVIATION)
    assert not np.array_equal(kernel, model.get_layer("block3b_second_conv").kernel.numpy())
