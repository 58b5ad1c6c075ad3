"""Calibration, post-processing, thresholds and false alarms on soundscape_mix, with networks of several seeds.

    python benchmarks/decisions.py ../shared/data RUN [RUN ...] [--sharpen 3]

RUN are runs of one experiment with different seeds, trained on the soundscapes of the split train:

    birdnet-fs train config.py:soundscapes data.root=../shared/data seed=0

Scored are the windows of the 17 recordings that no run was trained on (val and test), as long as the window of the
network, without overlap. Calibration is fitted to nine tenths of the recordings and measured on the rest, in turn; the
post-processing is measured on the test recordings. Thresholds are fitted to one half of the recordings and measured on
the other, both ways, in three divisions, and so are false alarms in synthetic noise (two minutes of each kind) and in
jura24h, which holds none of the species (split val and test, which was no background in training). --sharpen multiplies
the logits of the runs, which makes them overconfident.
"""

import argparse
import csv
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from birdnet_fs.analysis.calibration.false_alarms import NoiseScores, count_false_alarms, score_background, score_noise
from birdnet_fs.analysis.calibration.fitting import fit_maps
from birdnet_fs.analysis.calibration.thresholds import choose_thresholds
from birdnet_fs.analysis.postprocessing.chain import make_chain
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.score_table import ScoreTable, score_table
from birdnet_fs.inference.activations import to_logits
from birdnet_fs.inference.open import open_engine
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.metrics.calibration_error import calibration_error, calibration_summary
from birdnet_fs.metrics.classification import cmap
from birdnet_fs.reports.calibration.labeled_scores import post_processed
from birdnet_fs.reports.labeled import score_labeled
from birdnet_fs.reports.timed_events import timed_numbers
from birdnet_fs.schema import Data

CHAINS = (
    *("", "smooth", "smooth:kernel=1/2/1", "delta", "delta:alpha=0.5", "file_topk", "file_topk:power=0.4"),
    *("file_topk:k=2:power=0.4", "tail_power:top=3", "smooth:kernel=1/2/1,file_topk:power=0.4"),
)
METHODS = ("none", "temperature", "platt", "isotonic")
PRECISIONS = (0.7, 0.8, 0.9)
DIVISIONS = range(3)
NOISE_S = 120.0
SPLITS = ("val", "test")


class Scored(NamedTuple):
    """A run with its scores of the windows that it was not trained on."""

    engine: object
    table: ScoreTable
    events: tuple[Clip, ...]
    noise: dict[str, NoiseScores]

    @property
    def log_odds(self):
        return to_logits(self.table.scores.astype(np.float64), "sigmoid")

    @property
    def recordings(self):
        return np.array([Path(row.path).name for row in self.table.rows])


def read_rows(path, split):
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if row["set"].startswith(("soundscape", "jura")) and split(row)]


def score(run, data, sharpen):
    """Score the windows of a run; recordings without an event are labeled nocall from start to end."""
    engine = open_engine(run)
    events = read_rows(data / "annotations.csv", lambda row: row["split"] in SPLITS)
    files = read_rows(data / "metadata.csv", lambda row: row["split"] in SPLITS)
    empty = [row for row in files if row["labels"] == "nocall" and row["set"] == "soundscape_mix"]
    rows = [(data / "audio" / row["filename"], row["start"], row["end"], row["label"]) for row in events]
    rows += [(data / "audio" / row["filename"], 0, row["duration"], "nocall") for row in empty]
    with tempfile.TemporaryDirectory() as folder:
        with open(Path(folder) / "labels.csv", "w", newline="") as file:
            csv.writer(file).writerows([("filename", "start", "end", "label"), *rows])
        found = score_labeled(engine, Data(root=folder, table="labels.csv", label_column="label", multi_label=True))
    noise = score_noise(engine, NOISE_S)
    jura = [data / "audio" / row["filename"] for row in files if row["set"] == "jura24h"]
    quiet = [score_background(engine, path) for path in jura]
    noise["jura24h"] = NoiseScores(np.concatenate([q.scores for q in quiet]), sum(q.hours for q in quiet))

    def sharpened(scores):
        return expit(sharpen * to_logits(scores.astype(np.float64), "sigmoid")).astype(np.float32)

    if sharpen != 1:
        noise = {kind: NoiseScores(sharpened(each.scores), each.hours) for kind, each in noise.items()}
        table = score_table(found.table.rows, sharpened(found.table.scores), found.table.classes)
        return Scored(engine, table, found.events, noise)
    return Scored(engine, found.table, found.events, noise)


def mean(values):
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


def calibration(runs):
    print(
        "\nExpected calibration error on recordings that the calibration was not fitted to: mean ± standard deviation"
    )
    print("over the runs, and the mean ends of the 95 % intervals that redraw recordings")
    for method in METHODS:
        found = []
        for run in runs:
            p = run.table.scores
            if method != "none":
                p = expit(fit_maps(run.log_odds, run.table.targets, run.recordings, method).held_out)
            found.append(calibration_summary(run.table.targets, p, run.recordings)["all"])
        ece = [each["ece"] for each in found]
        low, high = np.mean([each.low for each in ece]), np.mean([each.high for each in ece])
        print(f"  {method:12} ECE {mean([each.value for each in ece])} ({low:.3f} to {high:.3f})", end="")
        print("".join(f", {part} {mean([each[part].value for each in found])}" for part in ("over", "under")))


def post_processing(runs):
    print("\nPost-processing on the test recordings: mean ± standard deviation over the runs; F is the event F-measure")
    print("(intersection over union above .3) at the threshold that is best for each class on these recordings")
    for text in CHAINS:
        values = []
        for run in runs:
            rows = [i for i, name in enumerate(run.recordings) if "_test_" in name]
            table = score_table([run.table.rows[i] for i in rows], run.table.scores[rows], run.table.classes)
            chain = make_chain(text, run.table.classes)
            scores = post_processed(table.scores, table.rows, run.engine.segment_s, chain)
            timed = timed_numbers(score_table(table.rows, scores, table.classes), run.events)
            error = calibration_error(table.targets, scores)
            area, precision = macro_auroc(table.targets, scores).value, cmap(table.targets, scores)
            event = (timed["best_f_measure"]["iou_0.3"], timed["psds_present"], timed["psds_localized"])
            values.append((precision, area, *event, error.ece[error.n_positives > 0].mean()))
        names = ("cmAP", "AUROC", "F", "PSDS right class", "PSDS exact times", "ECE")
        columns = zip(*values, strict=True)
        print(f"  {text or 'none':40}" + "  ".join(f"{n} {mean(c)}" for n, c in zip(names, columns, strict=True)))


def divisions(recordings):
    """Rows of one half of the recordings and of the other, both ways."""
    for seed in DIVISIONS:
        names = np.random.default_rng(seed).permutation(np.unique(recordings))
        halves = [np.flatnonzero(np.isin(recordings, n)) for n in (names[: len(names) // 2], names[len(names) // 2 :])]
        yield from (halves, halves[::-1])


def thresholds(runs):
    print("\nThresholds chosen on one half, precision and recall on the other; false alarms per hour of all species")
    for precision in PRECISIONS:
        given, right, detected, covered, recalls, alarms = 0, 0, 0, [], [], {}
        for run in runs:
            for a, b in divisions(run.recordings):
                targets, recordings = run.table.targets, run.recordings
                maps = fit_maps(run.log_odds[a], targets[a], recordings[a]).maps
                scores = expit(maps(run.log_odds)).astype(np.float32)
                chosen = choose_thresholds(scores[a], targets[a], recordings[a], [precision])[precision]
                limits = np.array([np.inf if c.threshold is None else c.threshold for c in chosen], np.float32)
                hits = scores[b] >= limits
                given += int(np.isfinite(limits).sum())
                right, detected = right + int((hits & (targets[b] > 0)).sum()), detected + int(hits.sum())
                for c in np.flatnonzero(np.isfinite(limits)):
                    if hits[:, c].any():
                        share = targets[b][hits[:, c], c].mean()
                        covered.append(chosen[c].low <= share <= chosen[c].high)
                    recalls.append(hits[targets[b][:, c] > 0, c].mean() if targets[b][:, c].any() else np.nan)
                for kind, each in run.noise.items():
                    rescored = NoiseScores(expit(maps(to_logits(each.scores, "sigmoid"))).astype("f4"), each.hours)
                    found = count_false_alarms({kind: rescored}, limits)[kind]
                    plain = int((each.scores >= 0.25).sum()) / each.hours
                    alarms.setdefault(kind, []).append((each.hours * 60, found.per_hour, plain))
        n = len(runs) * 2 * len(DIVISIONS) * len(runs[0].table.classes)
        inside = np.mean(covered) if covered else np.nan
        print(
            f"  {precision}: given {given} of {n}; {right} of {detected} detections right "
            f"({right / max(detected, 1):.3f}), recall of these classes {np.nanmean(recalls or [np.nan]):.2f}; the "
            f"share on the other half lies in the interval {inside:.2f}"
        )
        for kind, rates in alarms.items():
            minutes, with_thresholds, plain = np.mean(rates, axis=0)
            print(
                f"    {kind:11} {minutes:4.1f} min: {with_thresholds:6.1f} per hour; {plain:6.1f} with .25 for all "
                "classes, not calibrated"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--sharpen", type=float, default=1.0)
    given = parser.parse_args()
    runs = [score(run, given.data.absolute(), given.sharpen) for run in given.runs]
    table = runs[0].table
    print(
        f"{len(table.rows)} windows of {runs[0].engine.segment_s:g} s of {len(set(table.paths))} recordings; windows "
        f"by class: {table.targets.sum(0).astype(int).tolist()}"
    )
    if len(runs) > 1 and all(np.array_equal(run.table.scores, table.scores) for run in runs[1:]):
        print("All runs give the same scores; their spread says nothing.")
    calibration(runs)
    post_processing(runs)
    thresholds(runs)


if __name__ == "__main__":
    main()
