"""The networks of PANNs in plain PyTorch, any width, with the tensor names of the published checkpoints.

Written from the paper (https://arxiv.org/abs/1912.10211) and the authors' definitions; features in, logits out: no
spectrogram, no mixup, no sigmoid. `width` divides every channel count of the published tables.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CNN14 = (64, 128, 256, 512, 1024, 2048)
MOBILENET_V1 = (  # channels, pool
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)
MOBILENET_V2 = (  # expand, channels, blocks, pool of the first
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 2), (6, 160, 3, 1), (6, 320, 1, 1)),
)


def conv(n_in: int, n_out: int, side: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, side, padding=side // 2, groups=groups, bias=False)


class Panns(nn.Module):
    """Shared layers: bn0, `body`, max plus mean over time, two dense layers. Features [batch, time, mel, 1]."""

    dropout = 0.5

    def __init__(self, n_mels: int, pooled: int, embedding: int, n_classes: int) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(n_mels)
        self.fc1 = nn.Linear(pooled, embedding)
        self.fc_audioset = nn.Linear(embedding, n_classes)

    def body(self, x: Tensor) -> Tensor:
        return self.features(x)

    def embedding(self, features: Tensor) -> Tensor:
        x = features.permute(0, 3, 1, 2)  # [batch, 1, time, mel]
        x = self.bn0(x.transpose(1, 3)).transpose(1, 3)
        x = self.body(x).mean(3)
        x = x.max(2).values + x.mean(2)
        return F.relu(self.fc1(F.dropout(x, self.dropout, self.training)))

    def forward(self, features: Tensor) -> Tensor:
        return self.fc_audioset(self.embedding(features))


class ConvBlock(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(n_in, n_out, 3), conv(n_out, n_out, 3)
        self.bn1, self.bn2 = nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Cnn14(Panns):
    def __init__(self, n_mels: int = 64, n_classes: int = 527, width: int = 1) -> None:
        super().__init__(n_mels, CNN14[-1] // width, CNN14[-1] // width, n_classes)
        n_in = 1
        for i, n_out in enumerate(CNN14, 1):
            setattr(self, f"conv_block{i}", ConvBlock(n_in, n_out // width))
            n_in = n_out // width

    def body(self, x: Tensor) -> Tensor:
        for i in range(1, 7):
            x = getattr(self, f"conv_block{i}")(x)
            x = F.dropout(F.avg_pool2d(x, 2) if i < 6 else x, 0.2, self.training)
        return x


class MobileNetV1(Panns):
    def __init__(self, n_mels: int = 64, n_classes: int = 527, width: int = 1) -> None:
        n_in = 32 // width
        super().__init__(n_mels, 1024 // width, 1024 // width, n_classes)
        rows = [nn.Sequential(conv(1, n_in, 3), nn.AvgPool2d(2), nn.BatchNorm2d(n_in), nn.ReLU())]
        for channels, pool in MOBILENET_V1:
            n_out = channels // width
            depthwise = (conv(n_in, n_in, 3, groups=n_in), nn.AvgPool2d(pool), nn.BatchNorm2d(n_in), nn.ReLU())
            rows.append(nn.Sequential(*depthwise, conv(n_in, n_out, 1), nn.BatchNorm2d(n_out), nn.ReLU()))
            n_in = n_out
        self.features = nn.Sequential(*rows)


class InvertedResidual(nn.Module):
    def __init__(self, n_in: int, n_out: int, pool: int, expand: int) -> None:
        super().__init__()
        inside = n_in * expand
        wide = [conv(n_in, inside, 1), nn.BatchNorm2d(inside), nn.ReLU6()] if expand > 1 else []
        depthwise = [conv(inside, inside, 3, groups=inside), nn.AvgPool2d(pool), nn.BatchNorm2d(inside), nn.ReLU6()]
        self.conv = nn.Sequential(*wide, *depthwise, conv(inside, n_out, 1), nn.BatchNorm2d(n_out))
        self.adds = pool == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(Panns):
    dropout = 0.0

    def __init__(self, n_mels: int = 64, n_classes: int = 527, width: int = 1) -> None:
        super().__init__(n_mels, 1280 // width, 1024 // width, n_classes)
        n_in, top = 32 // width, 1280 // width
        rows: list[nn.Module] = [nn.Sequential(conv(1, n_in, 3), nn.AvgPool2d(2), nn.BatchNorm2d(n_in), nn.ReLU6())]
        for expand, channels, n_blocks, pool in MOBILENET_V2:
            for i in range(n_blocks):
                rows.append(InvertedResidual(n_in, channels // width, pool if i == 0 else 1, expand))
                n_in = channels // width
        rows.append(nn.Sequential(conv(n_in, top, 1), nn.BatchNorm2d(top), nn.ReLU6()))
        self.features = nn.Sequential(*rows)


NETWORKS: dict[str, type[Panns]] = {"cnn14": Cnn14, "mobilenet_v1": MobileNetV1, "mobilenet_v2": MobileNetV2}


def with_fitting_statistics(network: Panns, features: Tensor) -> Panns:
    """The network in eval mode, no tensor at its initial value, moving statistics that fit `features`.

    Without such statistics the signal of a deep fresh network dies out or explodes on its way.
    """
    generator = torch.Generator().manual_seed(0)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.copy_(torch.rand(norm.weight.shape, generator=generator) + 0.5)
            norm.bias.copy_(torch.randn(norm.bias.shape, generator=generator) * 0.2)
            norm.momentum = 1.0  # the statistics of this one batch
        network.train()(features)
        for norm in norms:
            norm.running_var.mul_(1.1).add_(0.01)
    return network.eval()
