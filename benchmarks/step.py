"""One training step, and inference, against the same network in plain PyTorch: one thread, CPU time, sides in turn.

    python benchmarks/step.py [--rounds 5] [--only resnet/18]

The peers are in plain_networks.py. Printed is the CPU time of plain PyTorch, and that of plain Keras, of the lowered
and of the folded network over it: the median over the rounds, in each of which the sides run one after the other
(goals: training 1.05, inference 1.0).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import plain_networks
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from birdnet_fs import models
from birdnet_fs.models.lowering.lower import lower

N_CLASSES = 206
# name -> its peer, (n_frames, n_mels), segments in a training step, segments of the larger inference
NETWORKS: dict[str, tuple[Callable[[int], nn.Module], tuple[int, int], int, int]] = {
    "cnn/small": (plain_networks.Cnn, (313, 128), 8, 12),
    "efficientnet_v2/b0": (plain_networks.efficientnet_v2_b0, (313, 128), 4, 12),
    "resnet/18": (plain_networks.resnet_18, (313, 128), 4, 12),
    "panns/cnn14": (plain_networks.Cnn14, (157, 64), 2, 4),
    "vit/small": (plain_networks.Vit, (256, 256), 2, 4),
    "rnn/lstm": (plain_networks.Lstm, (313, 128), 8, 12),
}


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
    """Run the sides in turn and print the time of the first and the ratios of the others."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, call in sides.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    (_, peer), *others = ((name, times[1:]) for name, times in seconds.items())  # the first is warm-up
    row = f"{title:32s} {statistics.median(peer) * 1e3:9.1f}"
    for _, times in others:
        row += f" {statistics.median(ours / theirs for ours, theirs in zip(times, peer, strict=True)):9.2f}"
    print(row, flush=True)


def main() -> None:
    """Print one line for each network and task."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=NETWORKS, help="one network")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':32s} {'torch, ms':>9s} {'Keras':>9s} {'lowered':>9s} {'folded':>9s}")
    for name in [settings.only] if settings.only else NETWORKS:
        make, shape, n_train, n_inference = NETWORKS[name]
        peer = make(N_CLASSES)
        model = models.build(name, input_shape=(*shape, 1), n_classes=N_CLASSES)
        theirs = [p for p in peer.parameters() if p.requires_grad]
        ours = [w.value for w in model.trainable_weights]
        counts = [sum(p.numel() for p in side) for side in (theirs, ours)]
        if counts[0] != counts[1]:
            raise RuntimeError(f"{name}: the peer has {counts[0]} trainable values, ours {counts[1]}")
        lowered = lower(model)
        x = torch.randn(n_train, *shape, 1)
        nchw = x.permute(0, 3, 1, 2).contiguous()
        peer.train()
        steps = {
            "PyTorch": training_step(peer, theirs, nchw),
            "Keras": training_step(lambda v, m=model: m(v, training=True), ours, x),
            "lowered": training_step(lambda v, f=lowered: f(v, training=True), ours, x),
        }
        compare(f"{name}, training, {n_train}", steps, settings.rounds)
        peer.eval()
        folded = lower(model, fold=True)
        for n in (1, n_inference):
            x = torch.randn(n, *shape, 1)
            sides = {
                "PyTorch": inference(peer, x.permute(0, 3, 1, 2).contiguous()),
                "Keras": inference(lambda v, m=model: m(v, training=False), x),
                "lowered": inference(lowered, x),
                "folded": inference(folded, x),
            }
            compare(f"{name}, inference, {n}", sides, settings.rounds)


if __name__ == "__main__":
    main()
