"""Tile2Vec on unlabeled recordings, and what its embeddings are worth on birds10, as a Markdown table.

    python benchmarks/tile2vec.py [--minutes 20] [--threads 2] [--batch-size 16] [--output runs/tile2vec]
        [--encoder BirdNET.tflite]

Trained on xc171, jura24h and bf_bird0 of ../shared/data without their labels: slices of two seconds, neighbors by the
matrix profile of log-mel features. Compared on birds10, which is not trained on: linear probe (logistic regression on
the mean embedding of a clip, accuracy over the five folds of the table) and 5-way 1-shot accuracy across recordings.
"Statistics" are mean and standard deviation of each band of a log-mel spectrogram; `--encoder` adds a foreign encoder.
"""

import argparse
import csv
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from birdnet_fs.audio.read import read_audio
from birdnet_fs.data.episodes import draw_episodes
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.frontend.presets import preset
from birdnet_fs.inference.embed import Embedder
from birdnet_fs.metrics.few_shot import few_shot_accuracy
from birdnet_fs.motifs.clip_embeddings import embed_waveforms, open_embedding
from birdnet_fs.motifs.matrix_profile import self_join
from birdnet_fs.motifs.profile_table import ProfileRow
from birdnet_fs.motifs.tile2vec.batches import TripletBatches
from birdnet_fs.motifs.tile2vec.settings import Tile2VecSettings
from birdnet_fs.motifs.tile2vec.sources import Slices
from birdnet_fs.motifs.tile2vec.step import Stepper
from birdnet_fs.motifs.tile2vec.training import fit_tile2vec, initial_model
from birdnet_fs.runs.history import read_history

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RATE_HZ = 32_000
SETS = ("xc171", "jura24h", "bf_bird0")
FEATURES = dataclasses.replace(  # of the matrix profile: 10 frames a second, standardized
    preset("cnn_32k"), hop_length=3200, n_fft=4096, win_length=4096, n_mels=40, fmin_hz=500.0, normalize="z_score"
)
WINDOW = 20  # frames: 2 s
N_EPOCHS = 4
N_EPISODES = 1000
Embed = Callable[[np.ndarray], np.ndarray]  # float32 waveform [n] at its rate -> embedding [width]


def rows_of(data: Path, sets: tuple[str, ...]) -> list[dict[str, str]]:
    with open(data / "metadata.csv", encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["set"] in sets]


def mined(data: Path) -> list[ProfileRow]:
    """Matrix profile of each recording, in the form of the consolidated table."""
    found = []
    for row in rows_of(data, SETS):
        waveform = read_audio(data / "audio" / row["filename"], sample_rate_hz=RATE_HZ).waveform
        profile = self_join(log_mel(waveform, FEATURES)[0], WINDOW)
        seconds = len(waveform) / RATE_HZ
        found.append(ProfileRow(row["filename"], "", seconds, WINDOW / 10, WINDOW, None, profile.neighbors))
    return found


def statistics(waveform: np.ndarray) -> np.ndarray:
    features = log_mel(waveform, preset("cnn_32k"))[0]
    return np.concatenate([features.mean(axis=0), features.std(axis=0)])


def mean_embedding(embedder: Embedder) -> Embed:
    rule = clip_rule(embedder.spec.n_samples, RATE_HZ)
    return lambda waveform: embedder.mean(rule.cut(waveform))


def scores(embed: Embed, data: Path, rate_hz: int) -> tuple[float, float, float, float]:
    """Accuracy of the linear probe and its deviation over the folds, and 1-shot accuracy with its interval."""
    rows = rows_of(data, ("birds10",))

    def embedded(row: dict[str, str], duration_s: float | None = None) -> np.ndarray:
        file = data / "audio" / row["filename"]
        return embed(read_audio(file, sample_rate_hz=rate_hz, duration_s=duration_s).waveform)

    x = np.stack([embedded(row) for row in rows])
    labels, folds = np.array([r["label"] for r in rows]), np.array([int(r["fold"]) for r in rows])
    accuracies = []
    for fold in range(5):
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        probe.fit(x[folds != fold], labels[folds != fold])
        accuracies.append(probe.score(x[folds == fold], labels[folds == fold]))
    # standardized by recordings without labels
    others = np.stack([embedded(row, 6.0) for row in rows_of(data, ("xc171",))])
    z = ((x - others.mean(axis=0)) / (others.std(axis=0) + 1e-6)).astype(np.float32)
    episodes = draw_episodes(
        labels.tolist(), [r["group"] for r in rows], n_way=5, n_shot=1, n_query=5, n_episodes=N_EPISODES, seed=0
    )
    result = few_shot_accuracy(z, episodes, "cosine")
    interval = (result.high - result.low) / 2
    return float(np.mean(accuracies)), float(np.std(accuracies)), result.accuracy, interval


def steps_per_second(batches: TripletBatches, settings: Tile2VecSettings) -> float:
    stepper = Stepper(initial_model(settings), settings)
    stepper.step(batches.training(0), 1e-3)
    started = time.monotonic()
    for number in range(2):
        stepper.step(batches.training(number), 1e-3)
    return 2 / (time.monotonic() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path, default=Path("runs/tile2vec"))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--margin", type=float, default=50.0)
    parser.add_argument("--l2", type=float, default=0.01)
    parser.add_argument("--distant", default="row")
    parser.add_argument("--network", default="")
    parser.add_argument("--encoder", type=Path)
    arguments = parser.parse_args()
    started = time.monotonic()
    torch.set_num_threads(arguments.threads)
    settings = Tile2VecSettings(
        epochs=N_EPOCHS,
        batch_size=arguments.batch_size,
        schedule="cosine",
        patience=0,
        val_fraction=0.03,
        margin=arguments.margin,
        l2=arguments.l2,
        threads=arguments.threads,
        distant=arguments.distant,
        network=arguments.network,
    )
    table = mined(arguments.data)
    source = Slices(table, arguments.data / "audio", RATE_HZ, settings.frontend.n_samples, "xc171 jura24h bf_bird0")
    print(f"{len(table)} recordings mined, {len(source.recordings)} slices: {time.monotonic() - started:.0f} s")
    n = round(60 * arguments.minutes * steps_per_second(TripletBatches(source, settings), settings) * 0.9 / N_EPOCHS)
    settings = dataclasses.replace(settings, n_batches=max(1, n))
    print(f"{N_EPOCHS} epochs of {settings.n_batches} batches of {settings.batch_size} triplets")
    random, network = initial_model(settings), arguments.network or "TileNet v2"
    run = fit_tile2vec(TripletBatches(source, settings), settings, arguments.output, limit_s=60 * arguments.minutes)
    print("| epoch | training loss | validation loss | seconds |\n|---|---|---|---|")
    for row in read_history(run.path / "history.csv"):
        print(f"| {row['epoch']:.0f} | {row['train_loss']:.2f} | {row['val_loss']:.2f} | {row['seconds']:.0f} |")
    sides: list[tuple[str, Embed, int]] = [
        ("log-mel statistics", statistics, RATE_HZ),
        (f"{network}, random", mean_embedding(Embedder(random, run.frontend)), RATE_HZ),
        (f"{network}, Tile2Vec", mean_embedding(Embedder(run.build_model(), run.frontend)), RATE_HZ),
    ]
    if arguments.encoder:
        features = open_embedding(arguments.encoder, threads=arguments.threads)
        sides.append((arguments.encoder.stem, lambda x: embed_waveforms(features, x[None])[0], features.sample_rate_hz))
    print("| embedding | linear probe | 5-way 1-shot |\n|---|---|---|")
    for name, embed, rate_hz in sides:
        probe, deviation, one_shot, interval = scores(embed, arguments.data, rate_hz)
        print(f"| {name} | {probe:.2f} ± {deviation:.2f} | {one_shot:.3f} ± {interval:.3f} |", flush=True)
    print(f"{time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
