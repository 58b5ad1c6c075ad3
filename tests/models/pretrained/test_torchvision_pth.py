"""Weights of torchvision: equal outputs at even and odd sizes, and tensors that do not fit."""

import dataclasses
from pathlib import Path

import convnext_twin
import efficientnet_twin
import pytest
import resnet_twin
import tolerances
import torch
import torch_twin
from image_networks import STAGES, difference, embedding
from torch import nn

from birdnet_fs.core.errors import UserError
from birdnet_fs.models import convnext, efficientnet_v2, pretrained

SMALL_CONVNEXT = {"n_blocks": (1, 1, 2, 1), "channels": (8, 12, 16, 24)}
SMALL_ROWS = tuple((*row, 3) for row in STAGES)


def torchvision(name: str, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A network for three channels whose state dict is named as torchvision's."""
    family, _, variant = name.partition("/")
    if family == "resnet":
        deep = {"34": ((3, 4, 6, 3), False), "50": ((3, 4, 6, 3), True)}
        n_blocks, bottleneck = deep.get(variant, ((2, 2, 2, 2), False))
        return resnet_twin.ResNet(5, n_blocks, bottleneck=bottleneck, n_channels=3)
    if family == "convnext":
        size = dataclasses.replace(convnext.VARIANTS[variant], **SMALL_CONVNEXT)
        monkeypatch.setitem(convnext.VARIANTS, variant, size)
        return convnext_twin.ConvNeXt(5, size.n_blocks, size.channels, n_channels=3)
    if family == "efficientnet":
        return efficientnet_twin.EfficientNet(efficientnet_twin.B0, 32, 1e-5)
    rows = tuple(efficientnet_v2.Stage(*row) for row in STAGES)
    size = dataclasses.replace(efficientnet_v2.VARIANTS["s_torch"], stages=rows, stem=8)
    monkeypatch.setitem(efficientnet_v2.VARIANTS, "s_torch", size)
    return efficientnet_twin.EfficientNet(SMALL_ROWS, 8, 1e-3)


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """State dict with torchvision's class layers; the twin of ConvNeXt has ANIMAL-SPOT's."""
    state = network.state_dict()
    if isinstance(network, convnext_twin.ConvNeXt):
        for part in ("weight", "bias"):
            state[f"classifier.2.{part}"] = state.pop(f"fc.{part}")
            state[f"classifier.0.{part}"] = torch.ones(network.fc.in_features)
    return state


NETWORKS = ("resnet/18", "resnet/34", "resnet/50", "convnext/tiny", "efficientnet/b0_torch", "efficientnet_v2/s_torch")
EVEN, ODD = 64, 65  # at even sizes the padding of Keras and torch differ


@pytest.mark.parametrize("side", [EVEN, ODD])
@pytest.mark.parametrize("name", NETWORKS)
def test_same_answers_as_torchvision_network_that_was_saved(
    name: str, side: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 3, side, side)
    network = torch_twin.with_fitting_statistics(torchvision(name, monkeypatch), x)
    torch.save(state_of(network), tmp_path / "w.pth")
    whole, ours = embedding(name, 3, side=side)
    assert not pretrained.load(whole, tmp_path / "w.pth", name=name)
    last = network.classifier[-1] if name.startswith("eff") else network.fc
    seen = []
    last.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        network(x)
    assert difference(ours, x.permute(0, 2, 3, 1).numpy(), seen[0]) <= tolerances.PYTORCH_TWIN


@pytest.mark.slow
def test_published_size_of_efficientnet_v2_answers_as_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 3, 64, 64)
    network = efficientnet_twin.EfficientNet(efficientnet_twin.S, 24, 1e-3)
    network = torch_twin.with_fitting_statistics(network, x)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    whole, ours = embedding("efficientnet_v2/s_torch", 3)
    pretrained.load(whole, tmp_path / "w.pth", name="efficientnet_v2/s_torch")
    with torch.no_grad():
        expected = network.features(x).mean((2, 3))
    assert difference(ours, x.permute(0, 2, 3, 1).numpy(), expected) <= tolerances.PYTORCH_TWIN


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("layer2.0.bn1.running_var"), "1 missing: block2a_first_bn/moving_variance"),
        (lambda state: state.update({"layer4.1.se.weight": torch.zeros(3)}), r"1 too many: layer4\.1\.se\.weight"),
        (lambda state: state.update({"classifier.1.weight": torch.zeros(3)}), r"1 too many: classifier\.1\.weight"),
        (lambda state: state.update({"bn1.weight": torch.zeros(7)}), r"of another shape: stem_bn/gamma \(7,\)"),
        (lambda state: state.update({"bn1.weight": torch.full((64,), torch.nan)}), "must be finite; 1 tensors"),
    ],
)
def test_wrong_missing_and_extra_tensors_are_named(change, words: str, tmp_path: Path) -> None:
    state = resnet_twin.ResNet(5, n_channels=3).state_dict()
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=words):
        pretrained.load(embedding("resnet/18", 1)[0], tmp_path / "w.pth", name="resnet/18")


def test_max_pooling_of_animal_spot_takes_the_file_where_its_tensors_fit(tmp_path: Path) -> None:
    torch.save(resnet_twin.ResNet(5, n_channels=3).state_dict(), tmp_path / "w.pth")
    pretrained.load(embedding("resnet/18_max_pool_2", 1)[0], tmp_path / "w.pth", name="resnet/18_max_pool_2")
    with pytest.raises(UserError, match="missing: block1a_shortcut_conv/kernel"):  # its first stage has stride 2
        pretrained.load(embedding("resnet/18_max_pool_0", 1)[0], tmp_path / "w.pth", name="resnet/18_max_pool_0")
