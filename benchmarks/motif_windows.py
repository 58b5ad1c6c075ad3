"""Does the motif of a recording make a better training clip than its loudest moment, or a random one?

    python benchmarks/motif_windows.py [--data ../shared/data] [--encoder FILE] [--seeds 3] [--level_db -6]

Each clip of birds10 (6 s of a species) is laid at a random place into 60 s of quiet recordings (jura24h), so that a
recording carries the name of a species and nothing says where it sings. One window of 2 s of each recording becomes a
training clip: its motif (`shape` features, 50 frames a second, windows of 1 s, the louder half; or the loudest tenth of
the windows), its loudest 2 s, or 2 s at random; "inside" is a random place within the laid clip, which nobody knows. A
classifier (logistic regression on log-mel statistics, or on the embeddings of an encoder) is fitted to the windows of
four folds, and scored on the whole clips of the fifth as they were recorded, by the mean probability over windows of
2 s every second. A fold holds whole recordings. Printed: the share of windows that lie on the laid clip by half or
more, accuracy and macro AUROC over all folds, mean and deviation of the seeds.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from birdnet_fs import macro_auroc
from birdnet_fs.audio.read import read_audio
from birdnet_fs.core.progress import track
from birdnet_fs.inference.embedder import open_embedder
from birdnet_fs.motifs.features import FeatureSettings, frame_levels, open_features
from birdnet_fs.motifs.log_mel_statistics import LogMelStatistics
from birdnet_fs.motifs.matrix_profile import self_join
from birdnet_fs.motifs.mining import MiningSettings, mine, motif

RATE_HZ, LONG_S, WINDOW_S, MOTIF_S = 32_000, 60, 2.0, 1.0
KINDS = ("motif", "motif of the loudest tenth", "loudest", "random", "inside")
N_WINDOW = round(WINDOW_S * RATE_HZ)
Embed = Callable[[np.ndarray], np.ndarray]  # float32 windows [n, N_WINDOW] -> [n, width]


def rows_of(data: Path, name: str) -> list[dict[str, str]]:
    with open(data / "metadata.csv", newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["set"] == name]


def waveform_of(data: Path, row: dict[str, str]) -> np.ndarray:
    return read_audio(data / "audio" / row["filename"], sample_rate_hz=RATE_HZ).waveform


def laid(clip: np.ndarray, quiet: list[np.ndarray], level: float, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """60 s of quiet recordings with the clip in it, whose loudest sample is `level`, and where it begins."""
    order = rng.permutation(len(quiet))
    long = np.concatenate([quiet[i] for i in order[:8]])[: LONG_S * RATE_HZ].copy()
    start = int(rng.integers(len(long) - len(clip)))
    long[start : start + len(clip)] += level * clip / np.abs(clip).max()
    return long, start


def starts_of(long: np.ndarray, place: int, n_clip: int, rng: np.random.Generator) -> dict[str, int]:
    """First sample of the window of each kind."""
    features = open_features(FeatureSettings("shape", 50.0))
    window = round(MOTIF_S * features.frames_per_s)
    pair = motif(mine(long, features, MiningSettings(features.settings, window, louder_half=True)).profile)
    x = features.compute(long)
    levels = np.convolve(frame_levels(long, features.hop, len(x)), np.ones(window), "valid")
    loud_pair = motif(self_join(x, window, active=levels >= np.quantile(levels, 0.9)))
    middle = round(MOTIF_S * RATE_HZ / 2)  # the motif lies in the middle of the window
    power = np.add.reduceat(np.square(long, dtype=np.float64), np.arange(0, len(long), RATE_HZ // 10))
    of_window = np.convolve(power, np.ones(round(10 * WINDOW_S)), "valid")
    last = len(long) - N_WINDOW
    found = {
        "motif": (pair.first * features.hop if pair else 0) + middle - N_WINDOW // 2,
        "motif of the loudest tenth": (loud_pair.first * features.hop if loud_pair else 0) + middle - N_WINDOW // 2,
        "loudest": int(of_window.argmax()) * (RATE_HZ // 10),
        "random": int(rng.integers(last)),
        "inside": place + int(rng.integers(n_clip - N_WINDOW)),
    }
    return {kind: min(max(start, 0), last) for kind, start in found.items()}


def embed_by(encoder: str) -> Embed:
    """Log-mel statistics, or the embeddings of an encoder with its window filled with zeros."""
    if encoder:
        embedder = open_embedder(encoder)
        n, rate_hz = embedder.n_samples, embedder.sample_rate_hz
    else:
        statistics = LogMelStatistics()
        n, rate_hz = statistics.n_samples, statistics.sample_rate_hz

    def embed(windows: np.ndarray) -> np.ndarray:
        import soxr

        if rate_hz != RATE_HZ:
            windows = np.stack([soxr.resample(window, RATE_HZ, rate_hz) for window in windows])
        # the window again and again, so that what fills it is no silence
        filled = np.tile(windows, (1, -(-n // windows.shape[1])))[:, :n].astype(np.float32)
        return embedder.embed(filled) if encoder else statistics.features(filled)

    return embed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--encoder", default="")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--level_db", type=float, default=-6.0)
    given = parser.parse_args()
    rows = sorted(rows_of(given.data, "birds10"), key=lambda row: row["filename"])
    clips = [waveform_of(given.data, row) for row in rows]
    quiet = [waveform_of(given.data, row) for row in rows_of(given.data, "jura24h") if "nocall" in row["label"]]
    classes, labels = np.unique([row["label"] for row in rows], return_inverse=True)
    folds = np.array([int(row["fold"]) for row in rows])
    embed = embed_by(given.encoder)
    whole = [embed(np.stack([c[s : s + N_WINDOW] for s in range(0, len(c) - N_WINDOW + 1, RATE_HZ)])) for c in clips]
    values: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in KINDS}
    for seed in range(given.seeds):
        rng = np.random.default_rng(seed)
        windows: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
        hits = dict.fromkeys(KINDS, 0)
        for clip in track(clips, f"seed {seed}", unit="recording"):
            long, place = laid(clip, quiet, 10 ** (given.level_db / 20), rng)
            for kind, start in starts_of(long, place, len(clip), rng).items():
                windows[kind].append(long[start : start + N_WINDOW])
                shared = min(start + N_WINDOW, place + len(clip)) - max(start, place)
                hits[kind] += shared >= N_WINDOW / 2
        for kind in KINDS:
            x, p = embed(np.stack(windows[kind])), np.zeros((len(clips), len(classes)))
            for fold in np.unique(folds):
                model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
                model.fit(x[folds != fold], labels[folds != fold])
                for i in np.flatnonzero(folds == fold):
                    p[i] = model.predict_proba(whole[i]).mean(axis=0)
            auroc = macro_auroc(np.eye(len(classes))[labels], p).value
            values[kind].append((hits[kind] / len(clips), float((p.argmax(1) == labels).mean()), float(auroc)))
    print("| window | on the clip | accuracy | macro AUROC |\n|---|---|---|---|")
    for kind, found in values.items():
        mean, spread = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) if len(found) > 1 else np.zeros(3)
        print(f"| {kind} | " + " | ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, spread, strict=True)) + " |")


if __name__ == "__main__":
    main()
