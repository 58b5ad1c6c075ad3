"""Ghost EfficientNetV2 against a plain PyTorch network, with the same weights, and Project Echo's counts."""

import functools
import math
import re

import keras
import numpy as np
import pytest
import tolerances
import torch
import torch_twin
from torch import nn

from birdnet_fs import models
from birdnet_fs.models.ghost_efficientnet_v2 import VARIANTS

# fused, expand, channels, n_blocks, stride
STAGES = [
    (True, 1, 24, 2, 1),
    (True, 4, 48, 4, 2),
    (True, 4, 64, 4, 2),
    (False, 4, 128, 6, 2),
    (False, 6, 160, 9, 1),
    (False, 6, 256, 15, 2),
]
PUBLISHED = {"1.0": (1.0, 1.0, 8_492_130), "0.75": (0.75, 1.0, 4_898_918), "0.75_depth_0.5": (0.75, 0.5, 2_516_702)}
EVERY = [pytest.param(v, marks=() if v == "0.75_depth_0.5" else pytest.mark.slow) for v in PUBLISHED]


def conv_bn(n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    rows = [nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(n_out)]
    return nn.Sequential(*rows, *([nn.SiLU()] if act else []))


class Ghost(nn.Module):
    """GhostNet's module: `n_out` channels, of which the second half is made of the first."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, act: bool = True) -> None:
        super().__init__()
        self.n_out, half = n_out, math.ceil(n_out / 2)
        self.primary = conv_bn(n_in, half, kernel, stride, act=act)
        self.cheap = conv_bn(half, half, 3, groups=half, act=act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.primary(x)
        return torch.cat([first, self.cheap(first)], 1)[:, : self.n_out]


class ECA(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = int(abs((math.log2(channels) + 1) / 2))
        kernel = kernel if kernel % 2 else kernel + 1
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.conv(x.mean((2, 3))[:, None]))
        return x * gate[:, 0, :, None, None]


class Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, fused: bool, expand: int, stride: int) -> None:
        super().__init__()
        inside = n_in * expand
        if fused and expand > 1:
            self.expand = Ghost(n_in, inside, 3, stride)
        else:
            self.expand = nn.Identity() if fused else Ghost(n_in, inside, 1)
            self.depthwise = conv_bn(inside, inside, 3, stride, groups=inside)
        self.eca = ECA(inside)
        self.project = Ghost(inside, n_out, 1, act=False)
        self.residual = stride == 1 and n_in == n_out
        self.scale = nn.Parameter(torch.full((n_out, 1, 1), 1e-5 if self.residual else 1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.expand(x)
        if hasattr(self, "depthwise"):
            y = self.depthwise(y)
        y = self.scale * self.project(self.eca(y))
        return x + y if self.residual else y


class GhostEfficientNetV2(nn.Module):
    def __init__(self, n_classes: int, width: float, depth: float) -> None:
        super().__init__()
        n_in = int(24 * width)
        self.stem = conv_bn(1, n_in, 3, 2)
        self.stages = nn.Sequential()
        for fused, expand, channels, n_blocks, stride in STAGES:
            blocks = nn.Sequential()
            for i in range(math.ceil(n_blocks * depth)):
                blocks.append(Block(n_in, int(channels * width), fused, expand, stride if i == 0 else 1))
                n_in = int(channels * width)
            self.stages.append(blocks)
        self.fc = nn.Linear(n_in, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.stages(self.stem(x)).mean((2, 3)))


def our_name(name: str) -> str:
    if name == "fc":
        return "logits"
    name = re.sub(r"\.0$", "_conv", re.sub(r"\.1$", "_bn", name)) if "stem" in name or name.count(".") > 3 else name
    if found := re.fullmatch(r"stages\.(\d)\.(\d+)(.*)", name):
        part = found[3].replace(".", "_") or "_layer_scale"
        return f"block{int(found[1]) + 1}{chr(97 + int(found[2]))}{part}"
    return name


@functools.cache
def ours(variant: str) -> keras.Model:
    return models.build(f"ghost_efficientnet_v2/{variant}", input_shape=(61, 46, 1), n_classes=5)


@pytest.mark.parametrize("variant", EVERY)
def test_parameter_counts_are_the_published_ones(variant):
    """Project Echo's backbone, trainable: all but the last layer, moving statistics not counted."""
    model = ours(variant)
    last = model.get_layer("logits").count_params()
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) - last
    assert trainable == PUBLISHED[variant][2]


@pytest.mark.parametrize("variant", EVERY)
def test_same_answers_as_plain_pytorch_with_the_same_weights(variant):
    torch.manual_seed(0)
    width, depth, _ = PUBLISHED[variant]
    x = torch.randn(3, 1, 61, 46)  # odd and even, because torch's and Keras' paddings part there
    theirs = torch_twin.with_fitting_statistics(GhostEfficientNetV2(5, width, depth), x)
    torch_twin.copy(theirs, ours(variant), our_name)
    assert torch_twin.largest_difference(ours(variant), theirs, x) <= tolerances.PYTORCH_TWIN


@pytest.mark.parametrize("variant", VARIANTS)
def test_channels_of_every_row_have_two_halves(variant):
    """Ghost modules of an odd width would make one channel more, which Project Echo cuts off."""
    size = VARIANTS[variant]
    assert [int(stage.channels * size.width) % 2 for stage in size.stages] == [0] * 6


def test_stochastic_depth_rises_linearly_and_blocks_start_as_the_identity():
    model = models.build("ghost_efficientnet_v2/0.75_depth_0.5", input_shape=(32, 32, 1), n_classes=1)
    rates = {layer.name: layer.rate for layer in model.layers if layer.name.endswith("stochastic_depth")}
    # 1 + 2 + 2 + 3 + 5 + 8 = 21 blocks; 6h is the last, 2b the third
    assert rates["block2b_stochastic_depth"] == pytest.approx(0.1 * 2 / 21)
    assert rates["block6h_stochastic_depth"] == pytest.approx(0.1 * 20 / 21)
    assert len(rates) == 21 - 6
    scales = [layer.gamma.numpy() for layer in model.layers if layer.name.endswith("layer_scale")]
    assert len(scales) == 21  # block 1a is added to its input, and never dropped
    starts = [float(scale[0]) for scale in scales if float(np.ptp(scale)) == 0]
    assert sorted(starts) == [float(np.float32(1e-5))] * (21 - 5) + [1.0] * 5
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(norm.epsilon, norm.momentum) for norm in norms} == {(1e-5, 0.9)}
