"""Weights of Vision Transformers: equal tokens, positions of other grids, and networks that compute something else."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
import tolerances
import torch
import vit_twin
from safetensors.torch import save_file

from birdnet_fs import models
from birdnet_fs.core.errors import UserError
from birdnet_fs.models import pretrained, vit

WIDTH, DEPTH, N_HEADS, GRID = 24, 3, 3, 4  # heads and widths differ, so that no axes can be confused


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    size = dataclasses.replace(vit.VARIANTS["base"], width=WIDTH, depth=DEPTH, n_heads=N_HEADS)
    monkeypatch.setitem(vit.VARIANTS, "base", size)
    torch.manual_seed(0)


def timm_network(grid: int = GRID) -> vit_twin.TimmViT:
    return vit_twin.drawn(vit_twin.TimmViT(WIDTH, DEPTH, N_HEADS, grid))


def torchvision_network() -> vit_twin.TorchvisionViT:
    return vit_twin.drawn(vit_twin.TorchvisionViT(WIDTH, DEPTH, N_HEADS, GRID))


def written(kind: str, folder: Path) -> tuple[torch.nn.Module, Path]:
    """A network and the file of its weights."""
    if kind.startswith("torchvision"):
        network, file = torchvision_network(), folder / "vit.pth"
        torch.save(network.old_names() if kind.endswith("published") else network.state_dict(), file)
        return network, file
    network = timm_network()
    if kind == "keras_hub":
        return network, vit_twin.write_keras_hub(network, folder / "model.weights.h5")
    if kind == "timm.safetensors":
        save_file(
            {name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / "m.safetensors"
        )
        return network, folder / "m.safetensors"
    torch.save({"model": network.state_dict()}, folder / "pytorch_model.bin")  # as DeiT's
    return network, folder / "pytorch_model.bin"


def ours(n_channels: int = 3, shape: tuple[int, int] = (64, 64), n_classes: int = 3) -> tuple[keras.Model, keras.Model]:
    whole = models.build("vit/base", input_shape=(*shape, n_channels), n_classes=n_classes)
    return whole, keras.Model(whole.input, whole.get_layer("embedding").output)


def difference(network: keras.Model, x: torch.Tensor, expected: torch.Tensor) -> float:
    with torch.no_grad():
        got = network(x, training=False)
    assert float(expected.std()) > 0.1
    return float((got - expected).abs().max() / expected.abs().max())


KINDS = ("timm.bin", "timm.safetensors", "torchvision", "torchvision published", "keras_hub")


@pytest.mark.parametrize("kind", KINDS)
def test_class_token_is_that_of_the_network_that_was_saved(kind: str, tmp_path: Path) -> None:
    network, file = written(kind, tmp_path)
    whole, tokens = ours()
    assert not pretrained.load(whole, file, name="vit/base")
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        expected = network(x)
    assert difference(tokens, x.permute(0, 2, 3, 1), expected) <= tolerances.PYTORCH_TWIN


@pytest.mark.parametrize("n_channels", [1, 2])
def test_equal_channels_give_the_tokens_of_a_gray_image(n_channels: int, tmp_path: Path) -> None:
    network, file = written("timm.bin", tmp_path)
    whole, tokens = ours(n_channels)
    pretrained.load(whole, file, name="vit/base")
    gray = torch.randn(3, 1, 64, 64)
    with torch.no_grad():
        expected = network(gray.repeat(1, 3, 1, 1))
    x = gray.permute(0, 2, 3, 1).repeat(1, 1, 1, n_channels)
    assert difference(tokens, x, expected) <= tolerances.PYTORCH_TWIN


@pytest.mark.parametrize("shape", [(256, 256), (128, 64), (250, 70)])
def test_positions_are_interpolated_to_the_patches_of_the_features(shape: tuple[int, int], tmp_path: Path) -> None:
    """From 14 x 14, as of an image of 224 x 224; the network with torch's interpolated positions answers the same."""
    network = timm_network(grid=14)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    whole, tokens = ours(shape=shape)
    pretrained.load(whole, tmp_path / "vit.pth", name="vit/base")
    grid = tuple(-(-side // 16) for side in shape)
    first, patches = network.pos_embed[:, :1], network.pos_embed[:, 1:].reshape(1, 14, 14, WIDTH).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(patches, grid, mode="bicubic", align_corners=False)
    network.pos_embed = torch.nn.Parameter(torch.cat([first, resized.flatten(2).transpose(1, 2)], dim=1))
    x = torch.randn(2, 3, *shape)
    padded = torch.nn.functional.pad(x, (0, -shape[1] % 16, 0, -shape[0] % 16))
    with torch.no_grad():
        expected = network(padded)
    assert difference(tokens, x.permute(0, 2, 3, 1), expected) <= tolerances.PYTORCH_TWIN


def changed(state: dict[str, torch.Tensor], case: str) -> dict[str, torch.Tensor]:
    width = torch.zeros(WIDTH)
    if case == "missing":
        return {name: tensor for name, tensor in state.items() if name != "blocks.1.attn.qkv.bias"}
    if case == "unknown":
        return {**state, "blocks.2.attn.gate.weight": width}
    if case == "no square":
        return {**state, "pos_embed": state["pos_embed"][:, :-3]}
    if case == "mean of patches":
        norm = {name.replace("norm.", "fc_norm."): state[name] for name in ("norm.weight", "norm.bias")}
        return {name: t for name, t in state.items() if name not in ("norm.weight", "norm.bias")} | norm
    names = {
        "distilled": "dist_token",
        "LayerScale": "blocks.0.ls1.gamma",
        "registers": "reg_token",
        "normalized queries": "blocks.0.attn.q_norm.weight",
    }
    return {**state, names[case]: width}


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing", "3 missing: block2_attention/query/bias, block2_attention/key/bias"),
        ("unknown", r"1 too many: blocks\.2\.attn\.gate\.weight"),
        ("no square", "a square grid of patches, as 1 \\+ 14 x 14. Received: 14 positions"),
        ("mean of patches", "reads the mean of the patches, not the class token"),
        ("distilled", "a second token for distillation"),
        ("LayerScale", "its branches end in LayerScale"),
        ("registers", "register tokens"),
        ("normalized queries", "normalizes queries and keys"),
    ],
)
def test_file_that_does_not_fit_is_refused_and_nothing_is_set(case: str, words: str, tmp_path: Path) -> None:
    torch.save(changed(timm_network().state_dict(), case), tmp_path / "vit.pth")
    whole, _ = ours()
    before = [v.numpy().copy() for v in whole.weights]
    with pytest.raises(UserError, match=words):
        pretrained.load(whole, tmp_path / "vit.pth", name="vit/base")
    assert all(np.array_equal(a, v.numpy()) for a, v in zip(before, whole.weights, strict=True))


def test_class_layers_of_every_project_are_left_out(tmp_path: Path) -> None:
    state = timm_network().state_dict() | {"pre_logits.fc.weight": torch.zeros(WIDTH, WIDTH)}
    torch.save(state, tmp_path / "vit.pth")
    whole, _ = ours(n_classes=1000)  # as many classes as the file: of other things
    before = whole.get_layer("logits").kernel.numpy().copy()
    assert not pretrained.load(whole, tmp_path / "vit.pth", name="vit/base")
    assert np.array_equal(whole.get_layer("logits").kernel.numpy(), before)


def test_narrower_or_shorter_network_is_named_by_its_sizes(tmp_path: Path) -> None:
    network = vit_twin.TimmViT(192, 12, 3, GRID)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    with pytest.raises(UserError, match=r"looks like timm's ViT \(tiny, patches of 16\).* set model.name=vit/tiny"):
        pretrained.load(ours()[0], tmp_path / "vit.pth", name="vit/base")
    torch.save(vit_twin.TimmViT(48, 2, 3, 8, patch=8).state_dict(), tmp_path / "vit.pth")
    with pytest.raises(UserError, match="of another shape: patches_conv/kernel"):
        pretrained.load(ours()[0], tmp_path / "vit.pth", name="vit/base")
