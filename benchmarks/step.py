"""One training step, and inference, against the same network in plain PyTorch: one thread, CPU time, sides in turn.

    python benchmarks/step.py [--rounds 7]

The peers are written below as torch users write them: NCHW modules, symmetric padding, in-place activations.
Printed is the median time of each side over that of plain PyTorch (goals: training 1.05, inference 1.0).
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from birdnet_fs import models
from birdnet_fs.models.cnn import VARIANTS as CNN
from birdnet_fs.models.efficientnet_v2 import VARIANTS as EFFICIENTNET
from birdnet_fs.models.lowering import lower

N_FRAMES, N_MELS, N_CLASSES = 313, 128, 206


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
    """cnn/small in plain PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        size = CNN["small"]
        self.bn0 = nn.BatchNorm2d(2)
        stem = nn.Conv2d(2, size.stem, 3, padding=1, bias=False)
        widths = (size.stem, *size.blocks)
        blocks = [Residual(n_in, n_out) for n_in, n_out in itertools.pairwise(widths)]
        self.layers = nn.Sequential(stem, nn.BatchNorm2d(size.stem), nn.ReLU(inplace=True), nn.MaxPool2d(2), *blocks)
        self.logits = nn.Linear(widths[-1], N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn0(torch.cat([x, x - x.mean(2, keepdim=True)], 1))  # [batch, 2, n_frames, n_mels]
        x = self.layers(x).mean(3)
        return self.logits(F.dropout(x.amax(2) + x.mean(2), 0.2, self.training))


def conv_bn(n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    """Convolution, normalisation, SiLU."""
    conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out, eps=1e-3), *([nn.SiLU(inplace=True)] if act else []))


class SqueezeExcite(nn.Module):
    """The gate of an MBConv block."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True)), inplace=True)))


class Block(nn.Module):
    """A block with stochastic depth."""

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
        if not self.residual:
            return y
        if self.training and self.drop > 0:
            keep = y.new_empty(y.shape[0], 1, 1, 1).bernoulli_(1 - self.drop).div_(1 - self.drop)
            y = y * keep
        return x + y


def efficientnet_v2_b0() -> nn.Module:
    """efficientnet_v2/b0 in plain PyTorch."""
    size = EFFICIENTNET["b0"]
    n_in, blocks = size.stem, [conv_bn(1, size.stem, 3, 2)]
    total = sum(stage.n_blocks for stage in size.stages)
    for stage in size.stages:
        for repeat in range(stage.n_blocks):
            drop = 0.2 * (len(blocks) - 1) / total
            stride = stage.stride if repeat == 0 else 1
            blocks.append(Block(n_in, stage.channels, stage.expand, stride, stage.fused, drop))
            n_in = stage.channels
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, N_CLASSES)]
    return nn.Sequential(*blocks, conv_bn(n_in, 1280, 1), *head)


def training_step(forward: Callable[[Tensor], Tensor], parameters: list[Tensor], x: Tensor) -> Callable[[], None]:
    """Forward, loss, backward and AdamW, as one call."""
    labels = torch.arange(len(x)) % N_CLASSES
    optimizer = torch.optim.AdamW(parameters, 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(forward(x), labels).backward()
        optimizer.step()

    return step


def inference(forward: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """The scores of one batch, as one call."""

    def score() -> None:
        with torch.inference_mode():
            forward(x)

    return score


def compare(title: str, sides: dict[str, Callable[[], None]], rounds: int) -> None:
    """Run the sides in turn and print each median against the first side."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, call in sides.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}  # the first is warm-up
    peer = next(iter(medians.values()))
    told = ", ".join(f"{name} {t * 1e3:7.1f} ms ({t / peer:4.2f})" for name, t in medians.items())
    print(f"{title:32s} {told}", flush=True)


def main() -> None:
    """Print one line for each network and task."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for name, make, n_train in (("cnn/small", Cnn, 16), ("efficientnet_v2/b0", efficientnet_v2_b0, 4)):
        peer = make()
        model = models.build(name, input_shape=(N_FRAMES, N_MELS, 1), n_classes=N_CLASSES)
        theirs = sum(p.numel() for p in peer.parameters())
        ours = sum(w.value.numel() for w in model.trainable_weights)
        if theirs != ours:
            raise RuntimeError(f"{name}: the peer has {theirs} trainable values, ours {ours}")
        lowered, weights = lower(model), [w.value for w in model.trainable_weights]
        x = torch.randn(n_train, N_FRAMES, N_MELS, 1)
        nchw = x.permute(0, 3, 1, 2).contiguous()
        peer.train()
        compare(
            f"{name} train {n_train}",
            {
                "PyTorch": training_step(peer, list(peer.parameters()), nchw),
                "Keras": training_step(lambda v, m=model: m(v, training=True), weights, x),
                "lowered": training_step(lambda v, f=lowered: f(v, training=True), weights, x),
            },
            rounds,
        )
        peer.eval()
        folded = lower(model, fold=True)
        for n in (1, 12):
            x = torch.randn(n, N_FRAMES, N_MELS, 1)
            compare(
                f"{name} inference {n}",
                {
                    "PyTorch": inference(peer, x.permute(0, 3, 1, 2).contiguous()),
                    "Keras": inference(lambda v, m=model: m(v, training=False), x),
                    "lowered": inference(lowered, x),
                    "folded": inference(folded, x),
                },
                rounds,
            )


if __name__ == "__main__":
    main()
