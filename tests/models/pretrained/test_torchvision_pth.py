"""Weights of torchvision: equal outputs, and files that are refused."""

import dataclasses
import os
from pathlib import Path

import convnext_twin
import pytest
import resnet_twin
import tolerances
import torch
import torch_twin
from image_networks import (
    STAGES,
    difference,
    embedding,
)
from torch import nn

from birdnet_fs.core.errors import UserError
from birdnet_fs.models import convnext, pretrained


def sequence(n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out, eps=1e-3), *[nn.SiLU()] * act)


class SqueezeExcitation(nn.Module):
    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(nn.functional.silu(self.fc1(y))))


class MBConv(nn.Module):
    """torchvision's MBConv and FusedMBConv."""

    def __init__(self, n_in: int, n_out: int, expand: int, stride: int, fused: bool) -> None:
        super().__init__()
        wide, self.same = n_in * expand, stride == 1 and n_in == n_out
        if fused:
            first = sequence(n_in, wide if expand > 1 else n_out, 3, stride)
            self.block = nn.Sequential(first, *([sequence(wide, n_out, 1, act=False)] if expand > 1 else []))
        else:
            depthwise = sequence(wide, wide, 3, stride, groups=wide)
            squeeze = SqueezeExcitation(wide, max(1, n_in // 4))
            self.block = nn.Sequential(sequence(n_in, wide, 1), depthwise, squeeze, sequence(wide, n_out, 1, act=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x) + (x if self.same else 0)


class TorchEfficientNetV2(nn.Module):
    """torchvision's efficientnet_v2_s, smaller."""

    def __init__(self) -> None:
        super().__init__()
        stages, n_in = [sequence(3, 8, 3, 2)], 8
        for fused, expand, channels, n_blocks, stride in STAGES:
            blocks = []
            for i in range(n_blocks):
                blocks.append(MBConv(n_in, channels, expand, 1 if i else stride, fused))
                n_in = channels
            stages.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*stages, sequence(n_in, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 5))

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x).mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.embed(x))


def torchvision(name: str, monkeypatch) -> nn.Module:
    """A network for three channels whose state dict is named as torchvision's."""
    if name == "resnet/18":
        network = resnet_twin.ResNet(5, n_channels=3)
    elif name == "convnext/tiny":
        size = dataclasses.replace(convnext.VARIANTS["tiny"], n_blocks=(1, 1, 2, 1), channels=(8, 12, 16, 24))
        monkeypatch.setitem(convnext.VARIANTS, "tiny", size)
        network = convnext_twin.ConvNeXt(5, size.n_blocks, size.channels)
        network.features[0][0] = nn.Conv2d(3, 8, 4, 4)
    else:
        network = TorchEfficientNetV2()
    return network


TORCHVISION = ("resnet/18", "convnext/tiny", "efficientnet_v2/s")


@pytest.mark.parametrize("name", TORCHVISION)
def test_same_answers_as_torchvision_network_that_was_saved(name, monkeypatch, small_stages, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(3, 3, 65, 65)  # odd at every halving: Keras' padding is torch's there
    network = torch_twin.with_fitting_statistics(torchvision(name, monkeypatch), x)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    whole, ours = embedding(name, 3, side=65)
    assert not pretrained.load(whole, tmp_path / "w.pth", name=name)
    last = network.classifier[-1] if name.startswith("eff") else network.fc
    seen = []
    last.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        network(x)
    assert difference(ours, x.permute(0, 2, 3, 1).numpy(), seen[0]) <= tolerances.PYTORCH_TWIN


class Code:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_a_torch_file_with_code_or_without_tensors_is_refused(tmp_path):
    model, _ = embedding("resnet/18", 1)
    for content in (Code(tmp_path / "ran"), {"conv1.weight": Code(tmp_path / "ran")}, {"epoch": 1}, [1, 2]):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"w\.pth is not a readable state dict of torch \(it holds (\w+\.mkdir|no)"):
            pretrained.load(model, tmp_path / "w.pth", name="resnet/18")
        assert not (tmp_path / "ran").exists()
    (tmp_path / "w.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match="not a readable state dict"):
        pretrained.load(model, tmp_path / "w.pth", name="resnet/18")
