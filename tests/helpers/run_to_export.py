"""Runs with random weights that give spread-out logits, and recordings, for tests of the exporter."""

import csv
from pathlib import Path

import keras
import numpy as np
import soundfile

from birdnet_fs import schema
from birdnet_fs.frontend import PRESETS
from birdnet_fs.runs.run import Run, build_network, model_weights, save_run

CLASSES = ("Turdus merula_Common Blackbird", "toad", "Parus major_Great Tit")


SPEC = schema.FrontEnd(
    preset="test",
    sample_rate_hz=16_000,
    segment_s=1.0,
    n_fft=512,
    win_length=512,
    hop_length=256,
    n_mels=32,
    fmax_hz=8_000.0,
    normalize="min_max",
    n_channels=2,
)


def make_run(folder: Path, experiment: schema.Experiment, classes: tuple[str, ...]) -> Run:
    """A run with random weights that give spread-out logits."""
    keras.utils.set_random_seed(7)
    random = np.random.default_rng(7)
    weights = model_weights(build_network(experiment, len(classes)))
    for name, value in weights.items():
        if name.endswith(("gamma", "moving_variance")):
            weights[name] = random.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif name.endswith(("beta", "moving_mean", "bias")):
            weights[name] = random.normal(0, 0.1, value.shape).astype(np.float32)
    weights["logits/kernel"] = weights["logits/kernel"] * 5
    return save_run(folder, experiment, classes, weights)


def write_recordings(root: Path) -> Path:
    """A folder per class of `CLASSES` with two recordings of 2.5 s each, calls of three kinds."""
    random = np.random.default_rng(5)
    time_s = np.arange(40_000) / 16_000
    for i, name in enumerate(CLASSES):
        (root / name).mkdir()
        for j in range(2):
            call = 0.4 * np.sin(2 * np.pi * (1000 + 1500 * i + 300 * j * time_s) * time_s) * (time_s % 0.5 < 0.2)
            noise = 0.01 * random.standard_normal(len(time_s))
            soundfile.write(root / name / f"{j}.wav", (call + noise).astype(np.float32), 16_000, subtype="PCM_16")
    return root


def small_run_on(recordings: Path, folder: Path) -> Run:
    """A run of cnn/tiny with the front-end `SPEC` for the recordings of `write_recordings`."""
    data = schema.Data(root=str(recordings), layout="folders", group_column="")
    experiment = schema.Experiment(name="small", frontend=SPEC, model=schema.Model(name="cnn/tiny"), data=data)
    return make_run(folder, experiment, CLASSES)


def write_licensed_recordings(root: Path) -> Path:
    """A table of six recordings of 6.5 s with their licenses, chirps of three kinds."""
    random, time_s = np.random.default_rng(5), np.arange(6.5 * 32_000) / 32_000
    rows = []
    for i in range(6):
        call = 0.4 * np.sin(2 * np.pi * (1500 + 2000 * (i % 3) + 100 * i * time_s) * time_s) * (time_s % 0.5 < 0.2)
        waveform = (call + 0.01 * random.standard_normal(len(time_s))).astype(np.float32)
        soundfile.write(root / f"{i}.wav", waveform, 32_000, subtype="PCM_16")
        rows.append({"filename": f"{i}.wav", "label": CLASSES[i % 3], "licence": "CC BY 4.0" if i else "CC0"})
    with (root / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return root


def edge_run_on(recordings: Path, folder: Path) -> Run:
    """A run of cnn/tiny with the front-end echo_edge for the recordings of `write_licensed_recordings`."""
    data = schema.Data(root=str(recordings), table="metadata.csv", label_column="label", group_column="")
    experiment = schema.Experiment(
        name="edge", frontend=PRESETS["echo_edge"], model=schema.Model(name="cnn/tiny"), data=data
    )
    return make_run(folder, experiment, CLASSES)
