"""Time that training steps wait for batches: the share of an epoch, with batches made in the process or beside it.

    python benchmarks/waiting.py [--epochs 3] [--only cnn/small]

birds10 with the whole chain of `birds10_cnn` (the recordings are decoded once, before the first epoch; all else is made
anew for every batch), one torch thread. The first epoch, in which kernels are compiled and workers start, is apart.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from birdnet_fs.batches.loader import Batch, TrainingBatches
from birdnet_fs.cli.experiment import load_experiment
from birdnet_fs.data.manifest import read_background
from birdnet_fs.data.partition import partition
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.runs.run import build_network
from birdnet_fs.training.loop import run_epochs
from birdnet_fs.training.objective import supervised_objective

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("cnn/small", "efficientnet_v2/b0")


class Timed(TrainingBatches):
    """Batches that note which share of every epoch was spent waiting for them."""

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of one epoch."""
        started, waited, source = time.perf_counter(), 0.0, super().epoch(epoch, first)
        while True:
            asked = time.perf_counter()
            batch = next(source, None)
            waited += time.perf_counter() - asked
            if batch is None:
                break
            yield batch
        self.shares = [*getattr(self, "shares", []), waited / (time.perf_counter() - started)]


def shares(name: str, workers: int, epochs: int, data: Path) -> list[float]:
    """Share of each epoch that was spent waiting."""
    given = [f"model.name={name}", f"training.workers={workers}", f"training.epochs={epochs}", f"data.root={data}"]
    experiment = load_experiment(f"{ROOT / 'config.py'}:birds10_cnn", [*given, "training.threads=1"])
    torch.set_num_threads(1)
    parts = partition(experiment)
    rate = experiment.frontend.sample_rate_hz
    waveforms = Waveforms(parts.train, rate)
    targets = clip_targets(waveforms.clips, parts.classes, multi_label=False)
    noises = Waveforms(read_background(experiment.data).clips, rate)
    timed = Timed(waveforms, targets, experiment, noises=noises)
    model = build_network(experiment, len(parts.classes))
    objective = supervised_objective(model, experiment.training, multi_label=False)
    run_epochs(model, timed, experiment.training, objective=objective)
    return timed.shares


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(NETWORKS))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    asked = parser.parse_args()
    if not asked.data.is_dir():
        raise SystemExit(f"The recordings of birds10 are needed in {asked.data}; give their folder with --data.")
    print("| network | workers | first epoch | later epochs |\n|---|---|---|---|", flush=True)
    for name in asked.only.split(","):
        for workers in (0, 1, 2):
            first, *later = shares(name, workers, max(2, asked.epochs), asked.data)
            print(f"| `{name}` | {workers} | {first:.1%} | {statistics.mean(later):.1%} |", flush=True)


if __name__ == "__main__":
    main()
