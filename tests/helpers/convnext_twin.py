"""ConvNeXt in plain PyTorch with torchvision's names, the reference of our own."""

import torch
import torch.nn.functional as F
from torch import nn


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps).permute(
            0, 3, 1, 2
        )


class Permute(nn.Module):
    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(self.dims)


class CNBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(width, eps=1e-6),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            Permute(0, 3, 1, 2),
        )
        self.layer_scale = nn.Parameter(torch.ones(width, 1, 1) * 1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layer_scale * self.block(x)


class ConvNeXt(nn.Module):
    """torchvision's convnext_tiny: `features`, then ANIMAL-SPOT's mean and linear layer."""

    def __init__(self, n_classes: int, n_blocks=(3, 3, 9, 3), widths=(96, 192, 384, 768), n_channels: int = 1) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for i, (depth, width) in enumerate(zip(n_blocks, widths, strict=True)):
            if i == 0:
                stages.append(nn.Sequential(nn.Conv2d(n_channels, width, 4, 4), LayerNorm2d(width, eps=1e-6)))
            else:
                stages.append(
                    nn.Sequential(LayerNorm2d(widths[i - 1], eps=1e-6), nn.Conv2d(widths[i - 1], width, 2, 2))
                )
            stages.append(nn.Sequential(*[CNBlock(width) for _ in range(depth)]))
        self.features = nn.Sequential(*stages)
        self.fc = nn.Linear(widths[-1], n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).mean((2, 3)))
