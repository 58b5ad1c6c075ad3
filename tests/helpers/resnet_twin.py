"""ResNet in plain PyTorch with torchvision's names, the reference of our own."""

import torch
from torch import nn


def conv_bn(n_in: int, n_out: int, kernel: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(n_out)]


class Residual(nn.Module):
    """torchvision's BasicBlock and Bottleneck (its "v1.5": the stride is in the 3x3 convolution)."""

    def __init__(self, n_in: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        n_out = 4 * width if bottleneck else width
        convs = [(n_in, width, 1, 1), (width, width, 3, stride), (width, n_out, 1, 1)]
        if not bottleneck:
            convs = [(n_in, width, 3, stride), (width, width, 3, 1)]
        self.n_convs = len(convs)
        for i, conv in enumerate(convs, 1):
            made, norm = conv_bn(*conv)
            setattr(self, f"conv{i}", made)
            setattr(self, f"bn{i}", norm)
        changed = stride != 1 or n_in != n_out
        self.downsample = nn.Sequential(*conv_bn(n_in, n_out, 1, stride)) if changed else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for i in range(1, self.n_convs + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y.relu() if i < self.n_convs else y
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    """torchvision's resnet18, 34 (`n_blocks` 3, 4, 6, 3) and 50 (also `bottleneck`), with ANIMAL-SPOT's max_pool."""

    def __init__(
        self,
        n_classes: int,
        n_blocks: tuple[int, ...] = (2, 2, 2, 2),
        *,
        bottleneck: bool = False,
        max_pool: int = 1,
        n_channels: int = 1,
        widths: tuple[int, ...] = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(n_channels, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if max_pool == 1 else nn.Identity()
        n_in = 64
        for stage, (width, n) in enumerate(zip(widths, n_blocks, strict=True), 1):
            blocks = []
            for repeat in range(n):
                stride = 2 if repeat == 0 and (stage > 1 or max_pool == 0) else 1
                blocks.append(Residual(n_in, width, stride, bottleneck))
                n_in = 4 * width if bottleneck else width
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(n_in, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))
