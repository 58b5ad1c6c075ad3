"""The networks of the package in plain PyTorch, as torch users write them, for step.py and episodes.py to compare with.

NCHW modules, symmetric padding, in-place activations, PyTorch's own LSTM and attention. Trainable parameters are as
many as the package's network has.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from birdnet_fs.models.cnn import VARIANTS as CNN
from birdnet_fs.models.efficientnet_v2 import VARIANTS as EFFICIENTNET

# ---------------------------------------------------------------- cnn/small


class Residual(nn.Module):
    """Two 3x3 convolutions beside a 1x1 shortcut, halved by max pooling."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out)
        self.conv2, self.bn2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out)
        self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.max_pool2d(F.relu(self.bn2(self.conv2(y)) + self.shortcut(x), inplace=True), 2)


class Cnn(nn.Module):
    """cnn/small."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        size = CNN["small"]
        self.bn0 = nn.BatchNorm2d(2)
        stem = nn.Conv2d(2, size.stem, 3, padding=1, bias=False)
        widths = (size.stem, *size.blocks)
        blocks = [Residual(n_in, n_out) for n_in, n_out in itertools.pairwise(widths)]
        self.layers = nn.Sequential(stem, nn.BatchNorm2d(size.stem), nn.ReLU(inplace=True), nn.MaxPool2d(2), *blocks)
        self.logits = nn.Linear(widths[-1], n_classes)

    def embedding(self, x: Tensor) -> Tensor:
        x = self.bn0(torch.cat([x, x - x.mean(2, keepdim=True)], 1))  # [batch, 2, n_frames, n_mels]
        x = self.layers(x).mean(3)
        return x.amax(2) + x.mean(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(F.dropout(self.embedding(x), 0.2, self.training))


# ---------------------------------------------------------------- efficientnet_v2/b0


def conv_bn(n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    """Convolution, normalization, SiLU."""
    conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out, eps=1e-3), *([nn.SiLU(inplace=True)] if act else []))


class SqueezeExcite(nn.Module):
    """The gate of an MBConv block."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True)), inplace=True)))


def drop_path(y: Tensor, drop: float, training: bool) -> Tensor:
    """Stochastic depth."""
    if not training or drop == 0:
        return y
    return y * y.new_empty(y.shape[0], *[1] * (y.ndim - 1)).bernoulli_(1 - drop).div_(1 - drop)


class MbConv(nn.Module):
    """A block of EfficientNetV2."""

    def __init__(self, n_in: int, n_out: int, expand: int, stride: int, fused: bool, drop: float) -> None:
        super().__init__()
        inner = n_in * expand
        if fused and expand == 1:
            parts = [conv_bn(n_in, n_out, 3, stride)]
        elif fused:
            parts = [conv_bn(n_in, inner, 3, stride), conv_bn(inner, n_out, 1, act=False)]
        else:
            parts = [conv_bn(n_in, inner, 1), conv_bn(inner, inner, 3, stride, groups=inner)]
            parts += [SqueezeExcite(inner, n_in // 4), conv_bn(inner, n_out, 1, act=False)]
        self.branch, self.drop, self.residual = nn.Sequential(*parts), drop, stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        return x + drop_path(y, self.drop, self.training) if self.residual else y


def efficientnet_v2_b0(n_classes: int) -> nn.Module:
    """efficientnet_v2/b0."""
    size = EFFICIENTNET["b0"]
    n_in, blocks = size.stem, [conv_bn(1, size.stem, 3, 2)]
    total = sum(stage.n_blocks for stage in size.stages)
    for stage in size.stages:
        for repeat in range(stage.n_blocks):
            drop = 0.2 * (len(blocks) - 1) / total
            stride = stage.stride if repeat == 0 else 1
            blocks.append(MbConv(n_in, stage.channels, stage.expand, stride, stage.fused, drop))
            n_in = stage.channels
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, n_classes)]
    return nn.Sequential(*blocks, conv_bn(n_in, 1280, 1), *head)


# ---------------------------------------------------------------- resnet/18


class BasicBlock(nn.Module):
    """torchvision's."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out)
        self.conv2, self.bn2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or n_in != n_out:
            self.downsample = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def resnet_18(n_classes: int) -> nn.Module:
    """resnet/18."""
    stem = [nn.Conv2d(1, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    table = ((64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2))
    blocks = [BasicBlock(*row) for row in (*table, (512, 512, 1))]
    return nn.Sequential(
        *stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(512, n_classes)
    )


# ---------------------------------------------------------------- panns/cnn14


class SpecAugment(nn.Module):
    """Two stripes of up to 64 frames and two of up to 8 bands, in each clip, set to zero."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            for axis, width in ((2, 64), (3, 8)):
                for clip in range(len(x)):
                    for _ in range(2):
                        n = int(torch.randint(0, width, ()))
                        start = int(torch.randint(0, x.shape[axis] - n, ()))
                        x[clip].narrow(axis - 1, start, n).fill_(0)
        return x


class ConvBlock(nn.Module):
    """Two convolutions."""

    def __init__(self, n_in: int, n_out: int, pool: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out)
        self.conv2, self.bn2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.bn2(self.conv2(F.relu_(self.bn1(self.conv1(x))))))
        x = F.avg_pool2d(x, self.pool) if self.pool > 1 else x
        return F.dropout(x, 0.2, self.training)


class Cnn14(nn.Module):
    """panns/cnn14 on `n_mels` bands."""

    def __init__(self, n_classes: int, n_mels: int = 64) -> None:
        super().__init__()
        self.bn0, self.augment = nn.BatchNorm2d(n_mels), SpecAugment()
        widths = (1, 64, 128, 256, 512, 1024, 2048)
        pairs = list(itertools.pairwise(widths))
        self.blocks = nn.Sequential(*[ConvBlock(*pair, pool=2 if pair != pairs[-1] else 1) for pair in pairs])
        self.fc1, self.logits = nn.Linear(2048, 2048), nn.Linear(2048, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.augment(self.bn0(x.transpose(1, 3)).transpose(1, 3))  # [batch, 1, n_frames, n_mels]
        x = self.blocks(x).mean(3)
        x = F.dropout(x.amax(2) + x.mean(2), 0.5, self.training)
        return self.logits(F.dropout(F.relu_(self.fc1(x)), 0.2, self.training))


# ---------------------------------------------------------------- vit/small


class Attention(nn.Module):
    """timm's: queries, keys and values of all heads from one linear layer."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads, self.qkv, self.project = n_heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, n, width = x.shape
        qkv = self.qkv(x).reshape(batch, n, 3, self.n_heads, width // self.n_heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv.unbind(0))
        return self.project(y.transpose(1, 2).reshape(batch, n, width))


class VitBlock(nn.Module):
    """Attention and a dense part, each beside a way past it."""

    def __init__(self, width: int, n_heads: int, drop: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width, eps=1e-6), Attention(width, n_heads)
        self.norm2, self.drop, self.dropout = nn.LayerNorm(width, eps=1e-6), drop, nn.Dropout(0.1)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * width, width), nn.Dropout(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + drop_path(self.dropout(self.attention(self.norm1(x))), self.drop, self.training)
        return x + drop_path(self.mlp(self.norm2(x)), self.drop, self.training)


class Vit(nn.Module):
    """vit/small on 256 patches of 16 x 16 cells."""

    def __init__(self, n_classes: int, width: int = 384, depth: int = 12, n_patches: int = 256) -> None:
        super().__init__()
        self.norm0, self.patches = nn.BatchNorm2d(1, affine=False), nn.Conv2d(1, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, 1 + n_patches, width) * 0.02)
        self.blocks = nn.Sequential(*[VitBlock(width, 6, 0.1 * i / (depth - 1)) for i in range(depth)])
        self.norm, self.dropout, self.logits = (
            nn.LayerNorm(width, eps=1e-6),
            nn.Dropout(0.1),
            nn.Linear(width, n_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(self.norm0(x)).flatten(2).transpose(1, 2)
        x = self.dropout(torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions)
        x = self.norm(self.blocks(x))[:, 0]
        return self.logits(F.dropout(x, 0.2, self.training))


# ---------------------------------------------------------------- rnn/lstm


class Lstm(nn.Module):
    """rnn/lstm on `n_mels` bands."""

    def __init__(self, n_classes: int, n_mels: int = 128) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n_mels)
        self.rnn1, self.rnn2 = nn.LSTM(n_mels, 256, batch_first=True), nn.LSTM(256, 128, batch_first=True)
        for rnn in (self.rnn1, self.rnn2):  # torch has a second bias, which is added to the first
            nn.init.zeros_(rnn.bias_hh_l0).requires_grad_(False)
        self.dropout, self.logits = nn.Dropout(0.3), nn.Linear(128, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x.squeeze(1).transpose(1, 2)).transpose(1, 2)  # [batch, n_frames, n_mels]
        x, _ = self.rnn1(x)
        x, _ = self.rnn2(self.dropout(x))
        return self.logits(F.dropout(x.mean(1), 0.2, self.training))


# ---------------------------------------------------------------- prototypical/v1, prototypical/v2


class PrototypicalV1(nn.Module):
    """prototypical/v1."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for n_in, n_out in ((1, 64), (64, 128)):
            conv = nn.Conv2d(n_in, n_out, 3, padding=1)
            parts += [conv, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        self.layers, self.dense = nn.Sequential(*parts), nn.Linear(128, 2048)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.dense(self.layers(x).mean((2, 3))))


class WeighedBlock(nn.Module):
    """A block of prototypical/v2."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out)
        self.conv2, self.bn2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out)
        self.squeeze = nn.Linear(n_out, n_out // 16, bias=False)
        self.excite = nn.Linear(n_out // 16, n_out, bias=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def weigh(self, pooled: Tensor) -> Tensor:
        return self.excite(F.relu(self.squeeze(pooled), inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        y = F.dropout2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 0.1, self.training)
        y = self.bn2(self.conv2(y))
        weight = torch.sigmoid(self.weigh(y.mean((2, 3))) + self.weigh(y.amax((2, 3))))
        return F.relu(y * weight[:, :, None, None] + self.shortcut(x), inplace=True)


class PrototypicalV2(nn.Module):
    """prototypical/v2 and its learned distance."""

    def __init__(self) -> None:
        super().__init__()
        stem = [nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True)]
        table = ((32, 32, 1), (32, 64, 2), (64, 128, 2), (128, 256, 2))
        self.layers, self.dense = nn.Sequential(*stem, *[WeighedBlock(*row) for row in table]), nn.Linear(512, 1024)
        self.attention = nn.MultiheadAttention(256, 8, batch_first=True)
        hidden = [nn.Linear(2048, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 256), nn.ReLU(), nn.Dropout(0.1)]
        self.distance = nn.Sequential(*hidden, nn.Linear(256, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        frames = x.mean(3).transpose(1, 2)  # [batch, n_frames, channels]
        frames = frames + self.attention(frames, frames, frames, need_weights=False)[0]
        x = x + frames.transpose(1, 2)[:, :, :, None]
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        return F.normalize(self.dense(F.dropout(pooled, 0.1, self.training)))
