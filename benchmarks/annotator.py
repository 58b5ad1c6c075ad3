"""A simulated annotator: macro AUROC after 50, 100, 200 labels, chosen as `birdnet-fs search --next` does or at random.

Run: python benchmarks/annotator.py EMBEDDINGS.npz [DATA ENCODER.tflite] [training]. EMBEDDINGS.npz is made from DATA
(its set soundscape_mix) and BirdNET V2.4 with its labels file beside it when it is missing.

The pool is the training part, 18 recordings in windows of 3 s without overlap (360 windows). Ten windows at a time are
labeled with all species in them; the first N_START by diversity (before there is a head), the others by "top-quantile"
with the head fitted on what is labeled. The head is logistic regression (scikit-learn, L2) of the standardized square
root of the embeddings, a class at a time. The test part is 144 windows of 5 s; the score of one is the highest of the
three windows of 3 s inside. A class without a label scores 0 everywhere. With own scores, the logits of BirdNET for the
species are added to those of the head, and choices are made with both from the first label on.

N_START, the constants of label_selection.py, the strength of L2 and the weight of the own scores were chosen on the 23
recordings of training and validation (`training`: pools of 15 of them, scored on the other 8). Results on the test part
were seen in between; one mistake that they showed, the choice for classes without a label yet, was corrected.
"""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from birdnet_fs.audio.read import read_audio
from birdnet_fs.encoders.open import open_encoder
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.search.inner_products import norms
from birdnet_fs.search.label_selection import ClassScores, Labeled, select_windows
from birdnet_fs.search.store import EmbeddedRecording, Store, StoreHeader

STEPS, AT_A_TIME, N_START, SEEDS = (50, 100, 200), 10, 30, range(5)
WINDOW_S, LABELED_S, HOP_S, OVERLAP_S = 3, 5, 1, 0.1
MAX_STEPS = 500  # of the solver; it stops before where steps become as small as rounding
L2_C, OWN_WEIGHT = 1e-3, 0.25


@dataclass(frozen=True, eq=False)
class Soundscapes:
    """Windows of the recordings, and the events."""

    embeddings: np.ndarray  # float32 [n_windows, width]
    own: np.ndarray  # float32 [n_windows, n_classes], logits of the encoder
    recording: np.ndarray  # int [n_windows]
    start_s: np.ndarray  # float [n_windows]
    split: np.ndarray  # of each recording
    events: np.ndarray  # float [n_events, 4]: recording, onset, offset, class

    def targets(self, recording: int, start_s: float, end_s: float) -> np.ndarray:
        """Multi-hot labels [n_classes] of a time."""
        own = self.events[self.events[:, 0] == recording]
        inside = np.minimum(own[:, 2], end_s) - np.maximum(own[:, 1], start_s) > OVERLAP_S
        found = np.zeros(self.own.shape[1], int)
        found[own[inside, 3].astype(int)] = 1
        return found


def read_soundscapes(kept: Path, data: Path | None, encoder: Path | None) -> Soundscapes:
    """Read the embeddings, or make them."""
    if not kept.is_file():
        if data is None or encoder is None:
            raise SystemExit(f"{kept} does not exist; give DATA and ENCODER to make it.")
        np.savez(kept, **_embed(data, encoder))
    return Soundscapes(**np.load(kept))


def _embed(data: Path, encoder: Path) -> dict[str, np.ndarray]:
    rows = [row for row in _table(data / "metadata.csv") if row["set"] == "soundscape_mix"]
    events = [row for row in _table(data / "annotations.csv") if row["set"] == "soundscape_mix"]
    species = sorted({row["label"] for row in events})
    names = [row["filename"] for row in rows]
    labels = next(encoder.parent.glob("*Labels.txt")).read_text(encoding="utf-8").splitlines()
    columns = [next(i for i, label in enumerate(labels) if label.startswith(f"{name}_")) for name in species]
    opened = open_encoder(encoder, scores=True)
    starts = np.arange(0, 60 - WINDOW_S + 1, HOP_S)
    found = []
    for number, name in enumerate(names):
        audio = read_audio(data / "audio" / name, sample_rate_hz=opened.sample_rate_hz).waveform
        padded = np.pad(audio, (0, 60 * opened.sample_rate_hz))
        windows = [padded[s * opened.sample_rate_hz :][: opened.n_samples] for s in starts]
        found.append(opened.embed_and_score(np.stack(windows)))
        print(f"{number + 1}/{len(names)} recordings embedded", file=sys.stderr)
    timed = [
        [names.index(e["filename"]), float(e["start"]), float(e["end"]), species.index(e["label"])] for e in events
    ]
    return {
        "embeddings": np.concatenate([embeddings for embeddings, _ in found]),
        "own": np.concatenate([scores[:, columns] for _, scores in found]),
        "recording": np.repeat(np.arange(len(names)), len(starts)),
        "start_s": np.tile(starts.astype(float), len(names)),
        "split": np.array([row["split"] for row in rows]),
        "events": np.array(timed),
    }


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Annotation:
    """A pool of windows, of which the annotator labels some, and the windows that a head is scored on."""

    def __init__(self, data: Soundscapes, pool: list[int], test: list[int]) -> None:
        rows = np.flatnonzero(np.isin(data.recording, pool) & (data.start_s % WINDOW_S == 0))
        place = {(r, s): i for i, (r, s) in enumerate(zip(data.recording, data.start_s, strict=True))}
        places = [(r, s) for r in test for s in range(0, 60, LABELED_S)]
        inside = range(0, LABELED_S - WINDOW_S + 1, HOP_S)
        self.test_rows = np.array([[place[r, min(s + i, 60 - WINDOW_S)] for i in inside] for r, s in places])
        self.test_targets = np.array([data.targets(r, s, s + LABELED_S) for r, s in places])
        spans = [(int(data.recording[i]), data.start_s[i]) for i in rows]
        self.targets = np.array([data.targets(r, s, s + WINDOW_S) for r, s in spans])
        root = np.sqrt(np.maximum(data.embeddings, 0))
        self.features = (root - root[rows].mean(axis=0)) / (root[rows].std(axis=0) + 1e-3)
        self.own, self.rows, self.data = data.own, rows, data
        self.store = _store(data.embeddings[rows])

    def fit(self, labeled: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Weights and bias [width + 1, n_classes] of the head, and which classes have positives and negatives."""
        weights = np.zeros((self.features.shape[1] + 1, self.targets.shape[1]))
        given = self.targets[labeled]
        known = (given.any(axis=0)) & (~given.all(axis=0))
        for c in np.flatnonzero(known):
            head = LogisticRegression(C=L2_C, max_iter=MAX_STEPS).fit(self.features[self.rows[labeled]], given[:, c])
            weights[:, c] = [*head.coef_[0], head.intercept_[0]]
        return weights, known

    def auroc(self, weights: np.ndarray, own_weight: float) -> float:
        """Macro AUROC on the test windows."""
        logits = self.features @ weights[:-1] + weights[-1] + own_weight * self.own
        return macro_auroc(self.test_targets, logits[self.test_rows].max(axis=1)).value

    def curve(self, by: str, seed: int, own_weight: float) -> list[float]:
        """AUROC after each of STEPS labels."""
        rng, labeled, found = np.random.default_rng(seed), list[int](), list[float]()
        weights, known = np.zeros((self.features.shape[1] + 1, self.targets.shape[1])), None
        while len(labeled) < STEPS[-1]:
            if by == "random":
                left = np.setdiff1d(np.arange(len(self.rows)), labeled)
                labeled += rng.choice(left, AT_A_TIME, replace=False).tolist()
            else:
                n_positives = self.targets[labeled].sum(axis=0)
                start = not own_weight and len(labeled) < N_START
                chosen = select_windows(
                    self.store,
                    AT_A_TIME,
                    by="diversity" if start else by,
                    scores=self._scores(weights, known, own_weight),
                    labeled=Labeled(np.array(labeled, int), n_positives),
                    seed=seed,
                )
                labeled += [each.row for each in chosen]
            weights, known = self.fit(labeled)
            if len(labeled) in STEPS:
                found.append(self.auroc(weights, own_weight))
        return found

    def _scores(self, weights: np.ndarray, known: np.ndarray | None, own_weight: float) -> ClassScores:
        """Probabilities of the head and the own scores; rows are recognized by their embedding."""
        logits = (self.features @ weights[:-1] + weights[-1])[self.rows] + own_weight * self.own[self.rows]
        if known is not None and not own_weight:
            logits[:, ~known] = np.nan
        place = {row.tobytes(): i for i, row in enumerate(self.store.blocks[0])}
        names = tuple(map(str, range(logits.shape[1])))
        return ClassScores(
            names, lambda block: 1 / (1 + np.exp(-logits[[place[row.tobytes()] for row in block]])), "sigmoid"
        )


def _store(embeddings: np.ndarray) -> Store:
    n, width = embeddings.shape
    header = StoreHeader("encoder", "", "", "-", "", 48_000, 3.0, 3.0, width, "float32")
    recording = EmbeddedRecording("pool", "ok", "", (), 3.0 * n, 1, 1, "", "", n)
    start_s = 3.0 * np.arange(n)
    blocks = (np.ascontiguousarray(embeddings),)
    return Store(Path(), header, (recording,), np.zeros(n, np.int32), start_s, start_s + 3, blocks, norms(blocks))


def main(kept: str, *rest: str) -> None:
    """Print the table."""
    on_training = rest[-1:] == ("training",)
    paths = [Path(path) for path in rest if path != "training"]
    data = read_soundscapes(Path(kept), *(paths if len(paths) == 2 else (None, None)))
    parts = {part: np.flatnonzero(data.split == part).tolist() for part in ("train", "val", "test")}
    for own_weight in (0.0, OWN_WEIGHT):
        found: dict[str, list[list[float]]] = {"all": [], "random": [], "top-quantile": [], "uncertainty": []}
        found["diversity"] = []
        for seed in SEEDS:
            pool, test = parts["train"], parts["test"]
            if on_training:
                order = np.random.default_rng(seed).permutation(parts["train"] + parts["val"]).tolist()
                pool, test = order[:15], order[15:]
            annotation = Annotation(data, pool, test)
            whole = annotation.auroc(annotation.fit(list(range(len(annotation.rows))))[0], own_weight)
            found["all"].append([whole] * len(STEPS))
            for by in found.keys() - {"all"}:
                found[by].append(annotation.curve(by, seed, own_weight))
        print("own scores" if own_weight else "no own scores", "| labels:", *STEPS)
        everything, random = np.array(found["all"]), np.array(found["random"])
        for by, curves in found.items():
            values = np.array(curves)
            cells = [
                f"{m:.4f} ± {s:.4f} ({100 * share:.1f} %, {d:+.4f})"
                for m, s, share, d in zip(
                    values.mean(axis=0),
                    values.std(axis=0, ddof=1),
                    (values / everything).mean(axis=0),
                    (values - random).mean(axis=0),
                    strict=True,
                )
            ]
            print(f"{by:12s} ", "  ".join(cells), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
