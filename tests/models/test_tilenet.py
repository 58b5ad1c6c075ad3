"""TileNet against the same network in plain PyTorch, as its authors' users write it: parameters and answers."""

import keras
import numpy as np
import pytest
import tolerances
import torch
import torch.nn.functional as F
from torch import nn

from birdnet_fs import models
from birdnet_fs.models.lowering.lower import lower

SHAPES = {"v2": (65, 64, 1), "v4": (65, 64, 1), "v5": (131, 128, 1)}  # 5 s at hop 2,474 and 1,227, centered frames


class Residual(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class PlainTileNet(nn.Module):
    """[batch, 1, n_mels, n_frames] -> [batch, z]."""

    def __init__(self, stages: list[int], n_pools: int, stem_stride: int) -> None:
        super().__init__()
        self.n_pools = n_pools
        self.conv1 = nn.Conv2d(1, 64, 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.stages, n_in = nn.ModuleList(), 64
        for stage, n_out in enumerate(stages):
            self.stages.append(nn.Sequential(Residual(n_in, n_out, 1 + (stage > 0)), Residual(n_out, n_out, 1)))
            n_in = n_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in self.stages:
            x = stage(x)
        for _ in range(self.n_pools):
            x = F.avg_pool2d(x, 4)
        return x.view(x.size(0), -1)


PLAIN = {
    "v2": ([64, 128, 64], 2, 1),
    "v4": ([64, 128, 256, 512, 512], 1, 1),
    "v5": ([64, 128, 256, 512, 512], 1, 2),
}


def encoder(variant: str) -> keras.Model:
    whole = models.build(f"tilenet/{variant}", input_shape=SHAPES[variant], n_classes=1)
    return keras.Model(whole.input, whole.get_layer("embedding").output)


def named(plain: PlainTileNet) -> dict[str, nn.Module]:
    """Modules with weights under the names of our layers."""
    found = {"stem_conv": plain.conv1, "stem_bn": plain.bn1}
    for number, stage in enumerate(plain.stages, 1):
        for letter, block in zip("ab", stage, strict=True):
            name = f"stage{number}{letter}"
            found |= {f"{name}_1_conv": block.conv1, f"{name}_1_bn": block.bn1}
            found |= {f"{name}_2_conv": block.conv2, f"{name}_2_bn": block.bn2}
            if len(block.shortcut):
                found |= {f"{name}_shortcut_conv": block.shortcut[0], f"{name}_shortcut_bn": block.shortcut[1]}
    return found


def copy(plain: PlainTileNet, ours: keras.Model) -> None:
    modules = named(plain)
    assert {layer.name for layer in ours.layers if layer.weights} == set(modules)
    for name, module in modules.items():
        if isinstance(module, nn.Conv2d):  # theirs [out, in, mel, time], ours [time, mel, in, out]
            ours.get_layer(name).set_weights([module.weight.detach().permute(3, 2, 1, 0).numpy()])
        else:
            values = (module.weight, module.bias, module.running_mean, module.running_var)
            ours.get_layer(name).set_weights([value.detach().numpy() for value in values])


@pytest.mark.parametrize(("variant", "n_parameters"), [("v2", 867_392), ("v4", 20_872_128), ("v5", 20_872_128)])
def test_parameter_counts_are_the_published_ones(variant, n_parameters):
    trainable = sum(int(np.prod(weight.shape)) for weight in encoder(variant).trainable_weights)
    assert trainable == n_parameters
    assert trainable == sum(p.numel() for p in PlainTileNet(*PLAIN[variant]).parameters())


@pytest.mark.parametrize("variant", ["v2", pytest.param("v4", marks=pytest.mark.slow), "v5"])
def test_same_answers_as_plain_pytorch_with_the_same_weights(variant):
    torch.manual_seed(0)
    plain, ours = PlainTileNet(*PLAIN[variant]), encoder(variant)
    x = torch.randn(3, *SHAPES[variant])
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # statistics that fit, else the signal dies on its way
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        theirs_first = x.permute(0, 3, 2, 1)  # theirs is (channel, mel, time)
        plain.train()(theirs_first)
        expected = plain.eval()(theirs_first)
        copy(plain, ours)
        answers = [f(x) for f in (ours, lower(ours), lower(ours, fold=True))]
    assert float(expected.std()) > 0.1
    for got in answers:
        assert got.shape == expected.shape == (3, PLAIN[variant][0][-1])
        assert float((got - expected).abs().max()) <= tolerances.PYTORCH_TWIN


def test_a_longer_segment_is_the_mean_of_its_cells_and_a_short_one_is_taken_whole():
    whole = models.build("tilenet/v2", input_shape=(140, 64, 1), n_classes=1)
    assert whole.get_layer("pool2").output.shape == (None, 2, 1, 64)  # 140 -> 70 -> 35 -> 8 -> 2
    cells = keras.Model(whole.input, [whole.get_layer("pool2").output, whole.get_layer("embedding").output])
    with torch.no_grad():
        pooled, z = cells(torch.randn(2, 140, 64, 1), training=False)
    assert torch.allclose(z, pooled.mean((1, 2)), atol=tolerances.PYTORCH_TWIN)
    short = models.build("tilenet/v5", input_shape=(40, 32, 1), n_classes=1)
    assert short.get_layer("pool1").output.shape == (None, 1, 1, 512)  # a map of 2 x 1
