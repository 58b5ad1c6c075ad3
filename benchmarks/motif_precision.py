"""Precision of mined motifs: do the two windows of a pair hold the same syllables? Labels score, they choose nothing.

Run: python benchmarks/motif_precision.py ../shared/data [--songs 0:60] [--windows 0.6,1.0] [--features NAME,...]. Songs
of one Bengalese finch (`bf_bird0`) with syllables marked by an expert. Each song is mined on its own: the closest pairs
of windows that do not overlap, once among the louder half of the windows and once among all. A pair is right when its
two sequences of labels are at least .8 alike (1 - edit distance / length of the longer one); a syllable belongs to a
window that holds more than half of it.

Printed for each feature: the mean over songs of the share of right pairs among the first 1, 3 and 10; the same of the
first pair in songs that hold a right pair at all (the share of which is the ceiling of top 1); and with --max-distance,
how many songs have a motif then, and how many of these are right. "chance" are random pairs of windows.
"""

import argparse
import csv
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from birdnet_fs.core.progress import track
from birdnet_fs.motifs.features import FeatureSettings, frame_levels, open_features
from birdnet_fs.motifs.matrix_profile import mean_distance, self_join
from birdnet_fs.motifs.mining import top_motifs

RATE_HZ, ALIKE, TOP, N_CHANCE = 32_000, 0.8, (1, 3, 10), 500
Syllables = list[tuple[float, float, str]]
Features = Callable[[np.ndarray], tuple[np.ndarray, float]]  # waveform -> features [n_frames, width], frames a second


def songs_of(root: Path) -> dict[str, Syllables]:
    """Syllables (start, end, label) by the name of the song."""
    found = defaultdict(list)
    with open(root / "annotations.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["filename"].startswith("bf_bird0"):
                found[row["filename"]].append((float(row["start"]), float(row["end"]), row["label"]))
    return {name: sorted(found[name]) for name in sorted(found)}


def labels_in(syllables: Syllables, start_s: float, window_s: float) -> tuple[str, ...]:
    """Labels of the syllables of which more than half is in a window."""
    end_s = start_s + window_s
    return tuple(label for a, b, label in syllables if min(b, end_s) - max(a, start_s) > 0.5 * (b - a))


def similarity(x: tuple[str, ...], y: tuple[str, ...]) -> float:
    """1 - edit distance / length of the longer sequence; 0 when one is empty."""
    if not x or not y:
        return 0.0
    row = list(range(len(y) + 1))
    for i, a in enumerate(x, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(y, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return 1 - row[-1] / max(len(x), len(y))


def features_of() -> dict[str, Features]:
    """The features of the package, and others made of log-mel features."""

    def package(name: str, frames_per_s: float) -> Features:
        features = open_features(FeatureSettings(name, frames_per_s))
        return lambda waveform: (features.compute(waveform), features.frames_per_s)

    log_mel = open_features(FeatureSettings("logmel", 50))

    def changed(change: Callable[[np.ndarray], np.ndarray]) -> Features:
        return lambda waveform: (change(log_mel.compute(waveform)), log_mel.frames_per_s)

    def cosine(x: np.ndarray) -> np.ndarray:
        x = x - x.mean(axis=1, keepdims=True)
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)

    def whitened(x: np.ndarray, n: int) -> np.ndarray:
        u, _, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
        return np.sqrt(len(x)) * u[:, :n]

    return {
        "cens 10": package("cens", 10),
        "chroma 50": package("chroma", 50),
        "logmel 50": package("logmel", 50),
        "shape 50": package("shape", 50),
        "shape 100": package("shape", 100),
        "logmel, standardized bands": changed(lambda x: (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-3)),
        "logmel, cosine of frames": changed(cosine),
        "logmel, 4 white components": changed(lambda x: whitened(x, 4)),
        "logmel, 16 white components": changed(lambda x: whitened(x, 16)),
        "logmel and twice its slope": changed(lambda x: np.hstack([x, 2 * np.gradient(x, axis=0)])),
    }


def holds_right_pair(labels: list[tuple[str, ...]], gap: int) -> bool:
    """Whether two windows that begin more than `gap` apart are alike; equal sequences are compared once."""
    places = defaultdict(list)
    for place, each in enumerate(labels):
        places[each].append(place)
    kinds = list(places)
    for i, x in enumerate(kinds):
        for y in kinds[i:]:
            far = max(places[x][-1] - places[y][0], places[y][-1] - places[x][0]) > gap
            if far and similarity(x, y) >= ALIKE:
                return True
    return False


def scores(
    waveform: np.ndarray,
    syllables: Syllables,
    features: Features,
    window_s: float,
    louder: bool,
    rng: np.random.Generator,
) -> dict[str, float] | None:
    """Scores of one song; None where it is too short."""
    x, rate = features(waveform)
    window = max(2, round(window_s * rate))
    if len(x) < 3 * window:
        return None
    levels = np.convolve(frame_levels(waveform, round(RATE_HZ / rate), len(x)), np.ones(window), "valid")
    active = levels >= np.median(levels) if louder else np.ones(len(levels), bool)
    labels = [labels_in(syllables, i / rate, window_s) for i in range(len(levels))]
    pairs = top_motifs(self_join(x, window, active=active), max(TOP))
    right = [similarity(labels[pair.first], labels[pair.second]) >= ALIKE for pair in pairs]
    if not right:
        return None
    places = np.flatnonzero(active)
    drawn = [(a, b) for a, b in rng.choice(places, (N_CHANCE, 2)) if abs(a - b) > window / 2]
    chance = [similarity(labels[a], labels[b]) >= ALIKE for a, b in drawn]
    where = [labels[i] if active[i] else () for i in range(len(labels))]
    return {
        **{f"top {k}": float(np.mean(right[:k])) for k in TOP},
        "chance": float(np.mean(chance)) if chance else np.nan,
        "possible": float(holds_right_pair(where, round(window / 2))),
        "distance": pairs[0].distance / mean_distance(x, window, active),
    }


def main() -> None:
    """Print the scores."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--songs", default="0:60")
    parser.add_argument("--windows", default="0.6,1.0")
    parser.add_argument("--features", default="")
    parser.add_argument("--max-distance", type=float, default=0.3)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)  # of librosa, on songs shorter than its longest filter
    first, last = map(int, given.songs.split(":"))
    names, songs = list(songs_of(given.data))[first:last], songs_of(given.data)
    chosen = {k: v for k, v in features_of().items() if not given.features or k in given.features.split(",")}
    found: dict[tuple[float, str, bool], list[dict[str, float]]] = defaultdict(list)
    for name in track(names, "songs", unit="song"):
        waveform, _ = soundfile.read(given.data / "audio" / name, dtype="float32")
        for window_s in map(float, given.windows.split(",")):
            for kind, features in chosen.items():
                for louder in (True, False):
                    rng = np.random.default_rng(0)
                    row = scores(waveform, songs[name], features, window_s, louder, rng)
                    if row is not None:
                        found[window_s, kind, louder].append(row)
    for (window_s, kind, louder), rows in found.items():
        print(" ".join(lines(window_s, kind, louder, rows, given.max_distance)))


def lines(window_s: float, kind: str, louder: bool, rows: list[dict[str, float]], max_distance: float) -> Iterator[str]:
    """Columns of the printed table."""
    column = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    accepted, possible = column["distance"] <= max_distance, column["possible"] > 0
    yield f"{window_s:.1f} s {kind:28} {'louder half' if louder else 'all windows'} {len(rows):3d} songs:"
    yield ", ".join(f"top {k} {column[f'top {k}'].mean():.2f}" for k in TOP)
    yield f"(chance {np.nanmean(column['chance']):.2f}, at most {possible.mean():.2f});"
    yield f"where possible {column['top 1'][possible].mean() if possible.any() else np.nan:.2f};"
    share = column["top 1"][accepted].mean() if accepted.any() else np.nan
    yield f"within {max_distance:g}: {share:.2f} of {accepted.sum()}"


if __name__ == "__main__":
    main()
