"""ResNet-18 against a plain PyTorch network in torchvision's structure, and the counts of ANIMAL-SPOT."""

import re

import keras
import numpy as np
import pytest
import tolerances
import torch
import torch_twin
from torch import nn

from birdnet_fs import models


class BasicBlock(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or n_in != n_out:
            self.downsample = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """torchvision's resnet18 for one channel, with ANIMAL-SPOT's max_pool."""

    def __init__(self, n_classes: int, max_pool: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1) if max_pool == 1 else nn.Identity()
        strides = (2 if max_pool == 0 else 1, 2, 2, 2)
        for i, (n_in, n_out, stride) in enumerate(
            zip((64, 64, 128, 256), (64, 128, 256, 512), strides, strict=True), 1
        ):
            setattr(self, f"layer{i}", nn.Sequential(BasicBlock(n_in, n_out, stride), BasicBlock(n_out, n_out, 1)))
        self.fc = nn.Linear(512, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


PARTS = {"conv1": "first_conv", "bn1": "first_bn", "conv2": "second_conv", "bn2": "second_bn"}
PARTS |= {"downsample.0": "shortcut_conv", "downsample.1": "shortcut_bn"}


def our_name(name: str) -> str:
    if found := re.fullmatch(r"layer(\d)\.(\d)\.(.*)", name):
        return f"block{found[1]}{'ab'[int(found[2])]}_{PARTS[found[3]]}"
    return {"conv1": "stem_conv", "bn1": "stem_bn", "fc": "logits"}[name]


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    ("variant", "n_classes", "n_parameters"),
    [("18", 2, 11_171_266), ("18", 13, 11_176_909), ("18_max_pool_0", 13, 11_181_133)],
)
def test_published_parameter_counts(variant, n_classes, n_parameters):
    """Trainable numbers, the last layer among them; the moving statistics (torch: buffers) are not counted."""
    model = models.build(f"resnet/{variant}", input_shape=(64, 64, 1), n_classes=n_classes)
    assert trainable(model) == n_parameters


# odd and even sides, because torch's and Keras' paddings part there
@pytest.mark.parametrize("shape", [(61, 46), (64, 35)])
@pytest.mark.parametrize(("variant", "max_pool"), [("18", 1), ("18_max_pool_0", 0), ("18_max_pool_2", 2)])
def test_same_answers_as_plain_pytorch_with_the_same_weights(variant, max_pool, shape):
    torch.manual_seed(0)
    x = torch.randn(3, 1, *shape)
    theirs = torch_twin.settled(ResNet18(5, max_pool), x)
    ours = models.build(f"resnet/{variant}", input_shape=(*shape, 1), n_classes=5)
    torch_twin.copy(theirs, ours, our_name)
    assert trainable(ours) == sum(p.numel() for p in theirs.parameters())
    assert torch_twin.largest_difference(ours, theirs, x) <= tolerances.PYTORCH_TWIN


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
