"""Time of the batches that `keras.Model.fit` reads, as a ratio to the package's own loader; a Markdown table.

    KERAS_BACKEND=tensorflow python benchmarks/keras_batches.py [--passes 9] [--workers 0]

Clips of the aviary in segments of 5 s at 32 kHz with 128 mel bands, augmented, 32 to a batch. The
sides take turns, pass by pass; medians. On the backend torch the PyDataset is timed, on tensorflow the tf.data.Dataset.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras

from birdnet_fs.core.settings import override
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.schema import Data, Experiment, FrontEnd, Training
from birdnet_fs.training.fit.data import fit_data

AUGMENTATION = ("augmentation.mixup.p=0.5", "augmentation.gain_db=6", "augmentation.time_masks.n=1")


def seconds(batches: Iterator[Any]) -> float:
    start = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=9)
    parser.add_argument("--workers", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_aviary(folder, n_species=6, clips_per_species=25, n_soundscapes=0)
        experiment = Experiment(
            name="batches",
            data=Data(root=folder, table="metadata.csv", audio="audio", where="set=aviary"),
            frontend=FrontEnd(segment_s=5.0, sample_rate_hz=32_000, n_mels=128, fmin_hz=100.0, fmax_hz=15_000.0),
            training=Training(batch_size=32, workers=chosen.workers),
        )
        data = fit_data(override(experiment, AUGMENTATION))
        sides: dict[str, Callable[[], Iterator[Any]]] = {
            "the package's loader": lambda: data.batches.epoch(0),
            type(data.training).__name__ + f" on {keras.backend.backend()}": lambda: iter(data.training),
        }
        for make in sides.values():
            seconds(make())
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(chosen.passes):
            for name, make in sides.items():
                times[name].append(seconds(make()))
    base, *_ = medians = [statistics.median(found) for found in times.values()]
    print("| batches | ms per batch | ratio |\n|---|---|---|")
    for name, median in zip(times, medians, strict=True):
        print(f"| {name} | {1000 * median / len(data.batches):.1f} | {median / base:.2f} |")


if __name__ == "__main__":
    main()
