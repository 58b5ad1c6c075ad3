"""Calibration, thresholds, false alarms and post-processing on soundscape_mix, with BirdNET heads of several seeds.

    python benchmarks/decisions.py RUN RUN RUN [--data ../shared/data]

RUN are folders of `birdnet-fs train config.py:soundscapes_birdnet data.root=../shared/data model.encoder=FILE seed=0`
(1, 2). The windows are those of the 14 recordings that the runs were not trained on (validation and test), 3 s long
without overlap. For calibration and thresholds the recordings are divided in two by a seed: fitted to one half,
measured on the other. With --data, synthetic noise (two minutes of each kind) and half of jura24h, which holds none of
the species, are scored by the first run too; its false alarms are means over the divisions.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.special import expit

from birdnet_fs.analysis.calibration.false_alarms import NoiseScores, count_false_alarms, score_background, score_noise
from birdnet_fs.analysis.calibration.fitting import fit_maps
from birdnet_fs.analysis.calibration.thresholds import choose_thresholds
from birdnet_fs.analysis.postprocessing.chain import make_chain
from birdnet_fs.data.partition import HELD_OUT, PARTITION, VAL, read_partition
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.inference.activations import to_logits
from birdnet_fs.inference.clips import score_clips
from birdnet_fs.inference.open import open_engine
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.metrics.calibration_error import calibration_error
from birdnet_fs.metrics.classification import cmap

CHAINS = (
    *("", "smooth", "smooth:kernel=1/2/1", "delta", "delta:alpha=0.5", "file_topk", "file_topk:power=0.4"),
    *("file_topk:k=2:power=0.4", "tail_power:top=3", "smooth:kernel=1/2/1,file_topk:power=0.4"),
)
PRECISIONS = (0.7, 0.8, 0.9)
SEEDS = range(3)
NOISE_S = 120.0


def windows(run):
    """Scores, targets and recordings of the windows of a run that it was not trained on, and which are validation."""
    engine, clips = open_engine(run), []
    for part in (VAL, HELD_OUT):
        clips += [(part, clip) for clip in read_partition(run / PARTITION, part) if round(clip.onset_s) % 3 == 0]
    found = score_clips(engine, [clip for _, clip in clips])
    targets = clip_targets(found.clips, engine.classes, multi_label=True).astype(int)
    part_of = {(str(clip.path), clip.onset_s): part for part, clip in clips}
    parts = np.array([part_of[str(clip.path), clip.onset_s] for clip in found.clips])
    return engine, found.probabilities, targets, np.array([clip.path.name for clip in found.clips]), parts


def halves(recording, seed):
    """Rows of two halves of the recordings."""
    names = np.random.default_rng(seed).permutation(np.unique(recording))
    return [np.flatnonzero(np.isin(recording, part)) for part in (names[: len(names) // 2], names[len(names) // 2 :])]


def mean(values):
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


def calibration(runs):
    print("\nExpected calibration error, fitted to one half of the recordings and measured on the other, both ways")
    for method in ("none", "temperature", "platt", "isotonic"):
        rows = []
        for _, p, targets, recording, _ in runs:
            for seed in SEEDS:
                one, two = halves(recording, seed)
                for a, b in ((one, two), (two, one)):
                    log_odds, after = to_logits(p, "sigmoid"), p[b]
                    if method != "none":
                        after = expit(fit_maps(log_odds[a], targets[a], recording[a], method).maps(log_odds[b]))
                    error = calibration_error(targets[b], after)
                    seen = error.n_positives > 0
                    rows.append([each[seen].mean() for each in (error.ece, error.over, error.under)])
        print(f"  {method:12} ECE {mean([r[0] for r in rows])}, over {mean([r[1] for r in rows])}, under", end=" ")
        print(mean([r[2] for r in rows]))


def thresholds(runs, noise):
    print("\nThresholds chosen on one half, precision and recall on the other; false alarms per hour")
    for precision in PRECISIONS:
        given, right, detected, covered, recalls, alarms = 0, 0, 0, [], [], {}
        for (_, p, targets, recording, _), found_noise in zip(runs, noise, strict=True):
            for seed in SEEDS:
                one, two = halves(recording, seed)
                for a, b in ((one, two), (two, one)):
                    log_odds = to_logits(p, "sigmoid")
                    maps = fit_maps(log_odds[a], targets[a], recording[a]).maps
                    scores = expit(maps(log_odds)).astype(np.float32)
                    chosen = choose_thresholds(scores[a], targets[a], recording[a], [precision])[precision]
                    limits = np.array([np.inf if c.threshold is None else c.threshold for c in chosen], np.float32)
                    hits = scores[b] >= limits
                    given += int(np.isfinite(limits).sum())
                    right, detected = right + int((hits & (targets[b] > 0)).sum()), detected + int(hits.sum())
                    for c in np.flatnonzero(np.isfinite(limits)):
                        if hits[:, c].any():
                            share = targets[b][hits[:, c], c].mean()
                            covered.append(chosen[c].low <= share <= chosen[c].high)
                        recalls.append(hits[targets[b][:, c] > 0, c].mean() if targets[b][:, c].any() else np.nan)
                    for kind, each in found_noise.items():
                        rescored = NoiseScores(expit(maps(to_logits(each.scores, "sigmoid"))).astype("f4"), each.hours)
                        found = count_false_alarms({kind: rescored}, limits)[kind]
                        plain = int((each.scores >= 0.25).sum()) / each.hours
                        alarms.setdefault(kind, []).append((each.hours * 60, found.per_hour, plain))
        n = len(runs) * len(SEEDS) * 2 * runs[0][2].shape[1]
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


def post_processing(runs):
    print("\nPost-processing: mean ± standard deviation over the runs")
    for part in (VAL, HELD_OUT):
        for text in CHAINS:
            values = []
            for engine, p, targets, recording, parts in runs:
                chain, rows, after = make_chain(text, engine.classes), parts == part, p.astype(np.float32).copy()
                for one in np.unique(recording):
                    after[recording == one] = chain(after[recording == one])
                area, precision = macro_auroc(targets[rows], after[rows]).value, cmap(targets[rows], after[rows])
                error = calibration_error(targets[rows], after[rows])
                values.append((area, precision, error.ece[error.n_positives > 0].mean()))
            area, precision, ece = zip(*values, strict=True)
            print(f"  {part:8} {text or 'none':40} AUROC {mean(area)}  cmAP {mean(precision)}  ECE {mean(ece)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    runs = [windows(run) for run in given.runs]
    _, _, targets, recording, _ = runs[0]
    print(
        f"{len(targets)} windows of {len(np.unique(recording))} recordings; windows by class: {targets.sum(0).tolist()}"
    )
    calibration(runs)
    post_processing(runs)
    noise: list[dict[str, NoiseScores]] = [{} for _ in runs]
    if given.data:  # by the first run only
        noise[0] = score_noise(runs[0][0], NOISE_S)
        quiet = [score_background(runs[0][0], path) for path in sorted((given.data / "audio").glob("jura24h*"))[::2]]
        noise[0]["jura24h"] = NoiseScores(np.concatenate([q.scores for q in quiet]), sum(q.hours for q in quiet))
    thresholds(runs, noise)


if __name__ == "__main__":
    main()
