"""Prototypical networks: parameters, cost of an episode, and of a checkpoint; the tables of docs/prototypical.md.

    python benchmarks/prototypical.py --sizes         # parameters and bytes of every variant, on features of 512 x 128
    python benchmarks/prototypical.py --cost          # CPU time and memory of a training step, one thread
    python benchmarks/prototypical.py --checkpoints   # prototypes of all clips against those of a checkpoint

Cost: one training step (forward, loss, backward) on N_WAY classes of 5 + 5 clips, CPU time and the rise of the resident
memory, each network in a process of its own; an episode of the document has 10 classes, and both grow in proportion to
the clips. Checkpoints: events of ../shared/data (bf_bird0), CPU time of embedding all of them twice, for the last and
the best epoch, as an epoch did before, over that of the windows that one checkpoint uses.
"""

import argparse
import csv
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

N_WAY, N_SHOT, N_QUERY = 2, 5, 5
N_EVENTS = 1000
DISTANCE = {"v1": "euclidean"}  # of the head; of the others "learned"


def network(variant: str, n_classes: int = 10):
    """The network of a variant on the features of the few-shot front-end."""
    from birdnet_fs import models
    from birdnet_fs.frontend import preset

    return models.build(
        f"prototypical/{variant}",
        input_shape=(*preset("fewshot").shape, 1),
        n_classes=n_classes,
        dropout=0.0,
        head="prototypes",
        distance=DISTANCE.get(variant, "learned"),
    )


def sizes() -> None:
    """Print a row for every variant."""
    from birdnet_fs.models.prototypical import VARIANTS

    print("| variant | encoder | distance | trained parameters | float32 |\n|---|---|---|---|---|")
    for variant in sorted(VARIANTS):
        by_part = {"encoder": 0, "distance": 0}
        for weight in network(variant).trainable_weights:
            if weight.path.endswith("/prototypes"):
                continue  # of an episode, or of the classes of a finished run
            by_part["distance" if weight.path.startswith("logits/") else "encoder"] += math.prod(weight.shape)
        total = sum(by_part.values())
        distance = f"{by_part['distance']:,}" if by_part["distance"] else "none"
        print(f"| `{variant}` | {by_part['encoder']:,} | {distance} | {total:,} | {total * 4 / 2**20:.2f} MiB |")


def cost(variant: str) -> None:
    """Print CPU seconds and GiB of one training step of N_WAY classes."""
    import torch

    from birdnet_fs import schema
    from birdnet_fs.models.lowering.lower import lower
    from birdnet_fs.training.episodic.objective import episodic_objective

    torch.set_num_threads(1)
    model = network(variant, N_WAY)
    objective = episodic_objective(model, schema.Episodes(n_way=N_WAY, n_shot=N_SHOT, n_query=N_QUERY))
    forward, size = lower(objective.network), N_SHOT + N_QUERY
    x = torch.randn(N_WAY * size, *model.input.shape[1:])
    targets = torch.eye(N_WAY).repeat_interleave(size, 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(3):
        start = time.process_time()
        objective.loss(forward(x, training=True), targets, 0.0).backward()
        times.append(time.process_time() - start)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    seconds, scale = min(times), 10 / N_WAY
    hours = 50 * 2000 * seconds * scale / 3600
    print(
        f"| `{variant}` | {seconds:.2f} s | {memory:.2f} GiB | {seconds * scale:.1f} s | {memory * scale:.1f} GiB "
        f"| {hours:,.0f} h |"
    )


def checkpoints() -> None:
    """Print the ratio of the CPU times of the prototypes, before and now."""
    import torch

    from birdnet_fs.data.manifest import Clip
    from birdnet_fs.data.waveforms import Waveforms
    from birdnet_fs.frontend import preset
    from birdnet_fs.runs.run import model_weights
    from birdnet_fs.training.episodic.objective import set_prototypes
    from birdnet_fs.training.trainer import WINDOWS_OF_A_CHECKPOINT

    torch.set_num_threads(1)
    data, spec = ROOT / "../shared/data", preset("fewshot")
    with open(data / "annotations.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "bf_bird0"][:N_EVENTS]
    clips = [
        Clip(data / "audio" / row["filename"], float(row["start"]), float(row["end"]), (row["label"],)) for row in rows
    ]
    classes = sorted({clip.labels[0] for clip in clips})
    waveforms, model = Waveforms(clips, spec.sample_rate_hz), network("v1", len(classes))
    weights, times = model_weights(model), {}
    for name, per_class, often in (("before", None, 2), ("now", WINDOWS_OF_A_CHECKPOINT, 1)):
        start = time.process_time()
        for _ in range(often):
            set_prototypes(model, weights, waveforms, spec, classes, per_class)
        times[name] = time.process_time() - start
    print(
        f"{len(clips)} events of {len(classes)} classes: {times['before']:.1f} s of CPU an epoch before, "
        f"{times['now']:.1f} s now, a ratio of {times['before'] / times['now']:.0f}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("sizes", "cost", "checkpoints"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--variant", help="only the cost of this variant, in this process")
    given = parser.parse_args()
    if given.variant:
        cost(given.variant)
    if given.sizes:
        sizes()
    if given.cost:
        print(
            f"| variant | step of {N_WAY * (N_SHOT + N_QUERY)} clips | memory | episode of 100 | memory | 50 epochs |"
        )
        print("|---|---|---|---|---|---|", flush=True)
        for variant in ("v1", "v2_conv_gate", "v2"):
            subprocess.run([sys.executable, __file__, "--variant", variant], check=True)
    if given.checkpoints:
        checkpoints()


if __name__ == "__main__":
    main()
