"""The Vision Transformer against a plain PyTorch one with the same weights, arithmetic and published counts."""

import dataclasses

import keras
import numpy as np
import pytest
import tolerances
import torch
import torch.nn.functional as F
from torch import nn

from birdnet_fs import models
from birdnet_fs.models import vit
from birdnet_fs.models.blocks import Backbone


class TorchBlock(nn.Module):
    def __init__(self, width: int, n_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attention = nn.MultiheadAttention(width, n_heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class TorchViT(nn.Module):
    """As torch users write it: images [batch, channels, time, mel], the sides multiples of the patch."""

    def __init__(self, size: vit.Size, n_channels: int, n_patches: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(n_channels, size.width, size.patch, size.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.positions = nn.Parameter(torch.zeros(1, 1 + n_patches, size.width))
        hidden = size.width * size.expand
        self.blocks = nn.Sequential(*[TorchBlock(size.width, size.n_heads, hidden) for _ in range(size.depth)])
        self.norm = nn.LayerNorm(size.width, 1e-6)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.norm(self.blocks(x))


def copy_weights(ours: keras.Model, theirs: TorchViT) -> None:
    """Torch's weights into the Keras network, by name."""

    def copy(name: str, tensor: torch.Tensor) -> None:
        variable = by_path.pop(name)
        variable.assign(tensor.detach().reshape(variable.shape))

    def copy_all(name: str, module: nn.Module) -> None:
        norm = isinstance(module, nn.LayerNorm)
        copy(f"{name}/{'gamma' if norm else 'kernel'}", module.weight if norm else module.weight.T)
        copy(f"{name}/{'beta' if norm else 'bias'}", module.bias)

    by_path = {w.path: w for w in ours.trainable_weights}
    copy("patches_conv/kernel", theirs.patches.weight.permute(2, 3, 1, 0))
    copy("patches_conv/bias", theirs.patches.bias)
    copy("tokens/class_token", theirs.class_token)
    copy("tokens/positions", theirs.positions)
    for number, block in enumerate(theirs.blocks, 1):
        name = f"block{number}"
        copy_all(f"{name}_norm1", block.norm1)
        copy_all(f"{name}_norm2", block.norm2)
        thirds = zip(block.attention.in_proj_weight.chunk(3), block.attention.in_proj_bias.chunk(3), strict=True)
        for part, (weight, bias) in zip(("query", "key", "value"), thirds, strict=True):
            copy(f"{name}_attention/{part}/kernel", weight.T)
            copy(f"{name}_attention/{part}/bias", bias)
        copy_all(f"{name}_attention/attention_output", block.attention.out_proj)
        copy_all(f"{name}_expand", block.mlp[0])
        copy_all(f"{name}_project", block.mlp[2])
    copy_all("top_norm", theirs.norm)
    assert not by_path


def both_outputs(variant: str, shape: tuple[int, int, int]) -> keras.Model:
    features = keras.Input(shape, name="features")
    made: Backbone = vit.backbone(variant, features)
    return keras.Model(features, [made.frames, made.embedding])


@pytest.mark.parametrize(
    ("variant", "shape"),
    [
        ("tiny", (64, 48, 1)),
        ("tiny", (50, 40, 2)),  # padded to 64 x 48
        pytest.param("base", (256, 256, 1), marks=pytest.mark.slow),
    ],
)
def test_same_answers_as_plain_pytorch_with_the_same_weights(variant, shape):
    torch.manual_seed(0)
    size = vit.VARIANTS[variant]
    padded = [-(-n // 16) * 16 for n in shape[:2]]
    grid = (padded[0] // 16, padded[1] // 16)
    theirs = TorchViT(size, shape[2], grid[0] * grid[1]).eval()
    for name, weight in theirs.named_parameters():  # away from zeros and ones, so that none can be left out
        nn.init.normal_(weight, std=0.02 if weight.dim() == 2 else 0.3, mean=float("norm" in name and "weight" in name))
    ours = both_outputs(variant, shape)
    copy_weights(ours, theirs)
    ours.get_layer("input_bn").moving_mean.assign(np.linspace(-40.0, -30.0, shape[2]))
    ours.get_layer("input_bn").moving_variance.assign(np.linspace(100.0, 50.0, shape[2]))
    x = torch.randn(2, *shape) * 10 - 40
    with torch.no_grad():
        frames, embedding = ours(x, training=False)
        standard = (x - torch.linspace(-40, -30, shape[2])) / torch.sqrt(
            torch.linspace(100, 50, shape[2]) + vit.NORM_EPSILON
        )
        standard = F.pad(standard, (0, 0, 0, padded[1] - shape[1], 0, padded[0] - shape[0]))
        tokens = theirs(standard.permute(0, 3, 1, 2))
    assert float(tokens.std()) > 0.5
    assert float((embedding - tokens[:, 0]).abs().max()) <= tolerances.PYTORCH_TWIN
    expected = tokens[:, 1:].unflatten(1, grid).mean(2)
    assert frames.shape == expected.shape
    assert float((frames - expected).abs().max()) <= tolerances.PYTORCH_TWIN


def by_hand(width: int, depth: int, n_patches: int, n_channels: int) -> int:
    """Learned numbers up to the embedding."""
    block = 2 * 2 * width + 4 * (width * width + width) + 2 * 4 * width * width + 4 * width + width
    return 16 * 16 * n_channels * width + width + width + (1 + n_patches) * width + depth * block + 2 * width


@pytest.mark.parametrize(
    ("variant", "with_head"),
    # of DeiT with 1,000 classes: 5.7M, 22M, 86M in its table 1, to the digit in its authors' code
    [("tiny", 5_717_416), ("small", 22_050_664), pytest.param("base", 86_567_656, marks=pytest.mark.slow)],
)
def test_parameter_counts_are_the_published_ones(variant, with_head):
    model = models.build(f"vit/{variant}", input_shape=(224, 224, 3), n_classes=1000)
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    size = vit.VARIANTS[variant]
    backbone = with_head - 1000 * size.width - 1000
    assert trainable == with_head
    assert backbone == by_hand(size.width, size.depth, 14 * 14, 3)
    assert variant != "base" or backbone == 85_798_656
    assert model.count_params() - trainable == 2 * 3  # the standardization's moving mean and variance


@pytest.mark.parametrize("new_grid", [(16, 16), (20, 8), (3, 5), (14, 14), (7, 14)])
def test_positions_are_interpolated_as_torch_does(new_grid):
    positions = np.random.default_rng(0).normal(size=(1, 1 + 14 * 14, 8)).astype(np.float32)
    resized = vit.resize_positions(positions, (14, 14), new_grid)
    maps = torch.as_tensor(positions[:, 1:]).reshape(1, 14, 14, 8).permute(0, 3, 1, 2)
    expected = F.interpolate(maps, new_grid, mode="bicubic", align_corners=False).permute(0, 2, 3, 1).reshape(1, -1, 8)
    assert resized.dtype == np.float32 and np.array_equal(resized[:, 0], positions[:, 0])
    assert np.abs(resized[:, 1:] - expected.numpy()).max() <= tolerances.POSITIONS


def test_positions_of_another_grid_fit_the_network(monkeypatch):
    monkeypatch.setitem(vit.VARIANTS, "tiny", dataclasses.replace(vit.VARIANTS["tiny"], depth=1))
    old, new = both_outputs("tiny", (64, 48, 1)), both_outputs("tiny", (160, 64, 1))
    stored = keras.ops.convert_to_numpy(old.get_layer("tokens").positions)
    positions = new.get_layer("tokens").positions
    positions.assign(vit.resize_positions(stored, (4, 3), (10, 4)))
    assert np.array_equal(keras.ops.convert_to_numpy(positions)[:, 0], stored[:, 0])


def test_adapt_weights_resizes_the_positions_only():
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(1, 1 + 4 * 3, 8)).astype(np.float32)
    stored = {"tokens/positions": positions, "logits/kernel": rng.normal(size=(8, 2))}
    assert vit.adapt_weights("tiny", stored, (64, 48), (60, 40)) is stored  # the same grid of patches, padded
    adapted = vit.adapt_weights("tiny", stored, (64, 48), (160, 64))
    assert adapted.keys() == stored.keys() and adapted["logits/kernel"] is stored["logits/kernel"]
    assert np.array_equal(adapted["tokens/positions"], vit.resize_positions(positions, (4, 3), (10, 4)))
    assert stored["tokens/positions"] is positions


def test_dropout_and_stochastic_depth_are_the_published():
    model = both_outputs("tiny", (64, 48, 1))
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    depth = {name: rates.pop(name) for name in list(rates) if name.endswith("stochastic_depth")}
    assert len(rates) == 1 + 3 * 12 and set(rates.values()) == {0.1}
    assert len(depth) == 2 * 11  # the first block always stays
    for part in ("attention", "project"):
        assert depth[f"block2_{part}_stochastic_depth"] == pytest.approx(0.1 / 11)
        assert depth[f"block12_{part}_stochastic_depth"] == pytest.approx(0.1)
