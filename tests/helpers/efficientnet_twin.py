"""EfficientNet-B0 and EfficientNetV2-S in plain PyTorch with torchvision's names, the reference of our own."""

from collections.abc import Sequence

import torch
from torch import nn

# fused, expand, channels, blocks, stride, kernel: table 1 of Tan and Le 2019, and table 4 of Tan and Le 2021
B0 = (
    (False, 1, 16, 1, 1, 3),
    (False, 6, 24, 2, 2, 3),
    (False, 6, 40, 2, 2, 5),
    (False, 6, 80, 3, 2, 3),
    (False, 6, 112, 3, 1, 5),
    (False, 6, 192, 4, 2, 5),
    (False, 6, 320, 1, 1, 3),
)
S = (
    (True, 1, 24, 2, 1, 3),
    (True, 4, 48, 4, 2, 3),
    (True, 4, 64, 4, 2, 3),
    (False, 4, 128, 6, 2, 3),
    (False, 6, 160, 9, 1, 3),
    (False, 6, 256, 15, 2, 3),
)


class SqueezeExcitation(nn.Module):
    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(nn.functional.silu(self.fc1(y))))


class Block(nn.Module):
    """torchvision's MBConv and FusedMBConv."""

    def __init__(self, n_in: int, row: tuple, stride: int, eps: float) -> None:
        super().__init__()
        fused, expand, n_out, _, _, kernel = row
        wide, self.same = n_in * expand, stride == 1 and n_in == n_out
        if fused:
            parts = [conv(n_in, wide if expand > 1 else n_out, 3, stride, eps=eps)]
            parts += [conv(wide, n_out, 1, eps=eps, act=False)] if expand > 1 else []
        else:
            parts = [conv(n_in, wide, 1, eps=eps)] if expand > 1 else []
            parts += [
                conv(wide, wide, kernel, stride, groups=wide, eps=eps),
                SqueezeExcitation(wide, max(1, n_in // 4)),
                conv(wide, n_out, 1, eps=eps, act=False),
            ]
        self.block = nn.Sequential(*parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x) + (x if self.same else 0)


class EfficientNet(nn.Module):
    """torchvision's efficientnet_v2_s, and with rows B0, stem 32 and eps 1e-5 its efficientnet_b0."""

    def __init__(
        self, rows: Sequence[tuple], stem: int, eps: float, *, n_channels: int = 3, n_classes: int = 5
    ) -> None:
        super().__init__()
        stages, n_in = [conv(n_channels, stem, 3, 2, eps=eps)], stem
        for row in rows:
            blocks = []
            for i in range(row[3]):
                blocks.append(Block(n_in, row, 1 if i else row[4], eps))
                n_in = row[2]
            stages.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*stages, conv(n_in, 1280, 1, eps=eps))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, n_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def conv(
    n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1, *, eps: float, act: bool = True
) -> nn.Sequential:
    made = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(made, nn.BatchNorm2d(n_out, eps=eps), *[nn.SiLU()] * act)
