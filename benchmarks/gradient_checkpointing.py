"""Memory and time of a training step with training.gradient_checkpointing over those without: one thread, CPU.

    python benchmarks/gradient_checkpointing.py [--rounds 3] [--only resnet/18] [--batch 4]

Memory is the most that torch allocates during forward and backward, from its profiler, besides weights and features;
the gradients of the weights are part of it. Time is CPU time, the sides in turn.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import accumulate

import torch
import torch.nn.functional as F

from birdnet_fs import models
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.models.lowering.recompute import Recomputed

N_CLASSES = 206
NETWORKS = {  # (n_frames, n_mels)
    "efficientnet_v2/b0": (313, 128),
    "efficientnet_v2/s": (313, 128),
    "convnext/tiny": (256, 256),
    "panns/cnn14": (313, 64),
    "resnet/18": (256, 256),
    "vit/small": (256, 256),
    "ghost_efficientnet_v2/1.0": (313, 128),
}


def peak_bytes(call: Callable[[], None]) -> int:
    """Largest sum of the allocations and releases of tensors during a call, in bytes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))


def main() -> None:
    """Print one line for each network."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4, help="segments of a step")
    parser.add_argument("--only", choices=NETWORKS, help="one network")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':28s} {'MB':>7s} {'memory':>7s} {'time':>7s} {'parts':>6s}")
    for name in [settings.only] if settings.only else NETWORKS:
        model = models.build(name, input_shape=(*NETWORKS[name], 1), n_classes=N_CLASSES)
        x = torch.randn(settings.batch, *NETWORKS[name], 1)
        labels = torch.arange(len(x)) % N_CLASSES
        plain = lower(model)
        recomputed = Recomputed(plain)

        def step(forward: Callable[..., torch.Tensor], x=x, labels=labels, model=model) -> None:
            F.cross_entropy(forward(x, training=True), labels).backward()
            for variable in model.trainable_variables:
                variable.value.grad = None

        peaks = [peak_bytes(lambda f=forward: step(f)) for forward in (plain, recomputed)]
        ratios = []
        for _ in range(settings.rounds):
            seconds = []
            for forward in (plain, recomputed):
                start = time.process_time()
                step(forward)
                seconds.append(time.process_time() - start)
            ratios.append(seconds[1] / seconds[0])
        memory, slower = peaks[1] / peaks[0], statistics.median(ratios)
        print(f"{name:28s} {peaks[0] / 1e6:7.0f} {memory:7.2f} {slower:7.2f} {len(recomputed.parts):6d}", flush=True)


if __name__ == "__main__":
    main()
