"""Prototypical encoders against the same networks in plain PyTorch: parameters and answers, both on (mel, time)."""

import keras
import numpy as np
import pytest
import tolerances
import torch
import torch.nn.functional as F
from torch import nn

from birdnet_fs import models
from birdnet_fs.core.errors import UserError
from birdnet_fs.models.heads.prototypes import distance_network
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.models.prototypical import VARIANTS

PUBLISHED = (512, 128, 1)  # upstream's 128 mels x 512 frames, time first
SMALL = (64, 32, 1)


class PlainV1(nn.Module):
    """[batch, 1, n_mels, n_frames] -> [batch, width]."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for n_in, n_out in zip((1, *channels), channels, strict=False):
            steps += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2)]
        self.conv = nn.Sequential(*steps)
        self.fc = nn.Linear(channels[-1], width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.fc(self.conv(x).mean((2, 3))), dim=-1)


class ChannelAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // 16, bias=False), nn.ReLU(), nn.Linear(channels // 16, channels, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = torch.sigmoid(self.fc(x.mean((2, 3))) + self.fc(x.amax((2, 3))))
        return x * weight[:, :, None, None]


class Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.dropout = nn.Dropout2d(0.1)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        self.attention = ChannelAttention(n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.dropout(F.relu(self.bn1(self.conv1(x))))
        return F.relu(self.attention(self.bn2(self.conv2(y))) + self.shortcut(x))


class Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(channels, channels // 8, 1), nn.ReLU(), nn.Conv1d(channels // 8, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.conv(x.mean(2)).unsqueeze(2)


class SelfAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(channels, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames = x.mean(2).transpose(1, 2)  # [batch, n_frames, channels]
        frames = frames + self.mha(frames, frames, frames, need_weights=False)[0]
        return x + frames.transpose(1, 2).unsqueeze(2)


class PlainV2(nn.Module):
    """[batch, 1, n_mels, n_frames] -> [batch, width]."""

    def __init__(self, channels: tuple[int, ...], width: int, temporal: type[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels[0], 3, padding=1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()
        )
        strides = (1, 2, 2, 2)
        self.blocks = nn.Sequential(*map(Block, (channels[0], *channels), channels, strides))
        self.temporal = temporal(channels[-1])
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(2 * channels[-1], width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.temporal(self.blocks(self.stem(x)))
        return F.normalize(self.fc(self.dropout(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1))), dim=-1)


def plain_twin(variant: str) -> nn.Module:
    wide = "wide" in variant
    if variant == "v1":
        return PlainV1((64, 128), 2048)
    channels, width = ((64, 128, 256, 512), 2048) if wide else ((32, 64, 128, 256), 1024)
    return PlainV2(channels, width, Gate if "conv_gate" in variant else SelfAttention)


def encoder(variant: str, shape: tuple[int, int, int]) -> keras.Model:
    whole = models.build(f"prototypical/{variant}", input_shape=shape, n_classes=1)
    return keras.Model(whole.input, whole.get_layer("embedding").output)


def named(plain: nn.Module) -> dict[str, nn.Module]:
    """Modules with weights under the names of our layers."""
    if isinstance(plain, PlainV1):
        found = {f"block{i + 1}_{part}": plain.conv[4 * i + j] for i in (0, 1) for j, part in enumerate(("conv", "bn"))}
        return found | {"embedding_dense": plain.fc}
    found = {"stem_conv": plain.stem[0], "stem_bn": plain.stem[1], "embedding_dense": plain.fc}
    for i, block in enumerate(plain.blocks, 1):
        found |= {f"block{i}_1_conv": block.conv1, f"block{i}_1_bn": block.bn1}
        found |= {f"block{i}_2_conv": block.conv2, f"block{i}_2_bn": block.bn2}
        found |= {f"block{i}_se_squeeze": block.attention.fc[0], f"block{i}_se_excite": block.attention.fc[2]}
        if not isinstance(block.shortcut, nn.Identity):
            found |= {f"block{i}_shortcut_conv": block.shortcut[0], f"block{i}_shortcut_bn": block.shortcut[1]}
    if isinstance(plain.temporal, Gate):
        return found | {"time_squeeze": plain.temporal.conv[0], "time_excite": plain.temporal.conv[2]}
    return found | {"time_attention": plain.temporal.mha}


def weights_of(module: nn.Module) -> list[torch.Tensor]:
    """In the order and layout of our layer; kernels of convolutions [time, mel, in, out]."""
    if isinstance(module, nn.BatchNorm2d):
        return [module.weight, module.bias, module.running_mean, module.running_var]
    if isinstance(module, nn.MultiheadAttention):
        width, heads = module.embed_dim, module.num_heads
        values = []
        for kernel, bias in zip(module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3), strict=True):
            values += [kernel.T.reshape(width, heads, -1), bias.reshape(heads, -1)]
        return [*values, module.out_proj.weight.T.reshape(heads, -1, width), module.out_proj.bias]
    kernel = {
        nn.Linear: lambda w: w.T,
        nn.Conv1d: lambda w: w.permute(2, 1, 0)[None],
        nn.Conv2d: lambda w: w.permute(3, 2, 1, 0),
    }[type(module)](module.weight)
    return [kernel] if module.bias is None else [kernel, module.bias]


def copy(modules: dict[str, nn.Module], ours: keras.Model) -> None:
    assert {layer.name for layer in ours.layers if layer.weights and "dropout" not in layer.name} == set(modules)
    for name, module in modules.items():
        ours.get_layer(name).set_weights([value.detach().numpy() for value in weights_of(module)])


def n_trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    ("variant", "n_encoder", "n_with_distance"),
    [
        ("v1", 339_072, None),  # V1 measures squared Euclidean distances
        ("v2", 3_205_857 - 1_180_673, 3_205_857),
        ("v2_conv_gate", 1_778_688, 2_959_361),
        ("v2_wide", 7_105_792 - 65_536 - 576 + 4 * (512 * 512 + 512), 10_319_553),
        ("v2_wide_conv_gate", 7_105_792, 9_335_041),
    ],
)
def test_parameter_counts_are_the_published_ones(variant, n_encoder, n_with_distance):
    ours = encoder(variant, PUBLISHED)
    assert n_trainable(ours) == n_encoder
    if n_with_distance:
        assert n_trainable(ours) + n_trainable(distance_network(VARIANTS[variant].width)) == n_with_distance


@pytest.mark.parametrize(
    ("variant", "channels"), [("v2", (128, 256, 512, 1024)), ("v2_conv_gate", (16, 48, 32, 64)), ("v1", (8, 24))]
)
def test_other_channels_are_those_of_plain_pytorch(variant, channels):
    """Also by the counts above: the wide variant is these channels and a wider embedding."""
    whole = models.build(f"prototypical/{variant}", input_shape=SMALL, n_classes=1, channels=channels)
    ours = keras.Model(whole.input, whole.get_layer("embedding").output)
    attention = Gate if "conv_gate" in variant else SelfAttention
    plain = PlainV1(channels, 2048) if variant == "v1" else PlainV2(channels, 1024, attention)
    assert n_trainable(ours) == sum(p.numel() for p in plain.parameters())
    copy(named(plain), ours)  # every shape fits


@pytest.mark.parametrize(
    ("variant", "channels", "words"),
    [
        ("v2", (32, 64, 128), r"must be 4 whole numbers, each a multiple of 16, such as \[32, 64, 128, 256\]"),
        ("v2", (32, 64, 128, 200), "multiple of 16"),
        ("v2", (0, 64, 128, 256), "multiple of 16"),
        ("v1", (64, -1), "must be 2 whole numbers, each a multiple of 1"),
    ],
)
def test_channels_it_cannot_have_are_refused(variant, channels, words):
    with pytest.raises(UserError, match=words):
        models.build(f"prototypical/{variant}", input_shape=SMALL, n_classes=1, channels=channels)


def test_dropout_inside_the_blocks_is_a_setting():
    for settings, rate in (({}, 0.1), ({"block_dropout": 0.2}, 0.2)):
        model = models.build("prototypical/v2", input_shape=SMALL, n_classes=1, dropout=0.0, **settings)
        names = [f"block{i}_dropout" for i in range(1, 5)] + ["embedding_dropout"]
        assert [model.get_layer(name).rate for name in names] == [rate] * 5


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_same_embeddings_as_plain_pytorch_with_the_same_weights(variant):
    torch.manual_seed(0)
    plain, ours = plain_twin(variant), encoder(variant, SMALL)
    x = torch.randn(4, *SMALL)
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # statistics that fit, else the signal dies on its way
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
        elif isinstance(module, nn.MultiheadAttention):
            nn.init.normal_(module.in_proj_bias)
    with torch.no_grad():
        mel_first = x.permute(0, 3, 2, 1)
        plain.train()(mel_first)
        expected = plain.eval()(mel_first)
        copy(named(plain), ours)
        answers = [f(x) for f in (ours, lower(ours), lower(ours, fold=True))]
    scale = float(expected.std(0).mean())  # the embeddings differ from each other by this much
    for got in answers:
        assert got.shape == expected.shape == (4, VARIANTS[variant].width)
        assert float((got.norm(dim=-1) - 1).abs().max()) <= tolerances.PYTORCH_TWIN
        assert float((got - expected).abs().max()) <= tolerances.PYTORCH_TWIN * scale


def test_the_learned_distance_is_the_mlp_on_query_and_prototype():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(96, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 1))
    ours = distance_network(48)
    copy({"dense1": plain[0], "dense2": plain[2], "distance": plain[4]}, ours)
    query, prototype = torch.randn(7, 48), torch.randn(7, 48)
    pairs = torch.cat([query, prototype], dim=1)
    with torch.no_grad():
        expected, got = plain(pairs), ours(pairs, training=False)
        noisy = ours(pairs, training=True)
    assert float((got - expected).abs().max()) <= tolerances.PYTORCH_TWIN * float(expected.std())
    assert not torch.allclose(noisy, got)  # dropout while training
    assert (expected < 0).any() and (expected > 0).any()  # unbounded, unlike a metric


def test_dropout_is_the_published_one():
    ours = encoder("v2", SMALL)
    dropped = [layer for layer in ours.layers if isinstance(layer, keras.layers.SpatialDropout2D)]
    assert [layer.rate for layer in dropped] == [0.1] * 4 and ours.get_layer("embedding_dropout").rate == 0.1
