"""Calibration, thresholds, false alarms and post-processing on soundscape_mix, with BirdNET heads of three seeds.

    python benchmarks/decisions.py RUN RUN RUN --data ../shared/data

RUN are folders of `birdnet-fs train config.py:soundscapes_birdnet data.root=../shared/data model.encoder=FILE seed=0`
(1, 2). Windows of 3 s without overlap; a window has a species with an event in .1 s of it or more. Calibration and
thresholds are fitted to the validation recordings and measured on the test recordings, and the other way round.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.special import expit

from birdnet_fs import schema
from birdnet_fs.analysis.calibration.false_alarms import RECORDING_S, NoiseScores, count_false_alarms
from birdnet_fs.analysis.calibration.fitting import fit_maps
from birdnet_fs.analysis.calibration.thresholds import choose_thresholds
from birdnet_fs.analysis.postprocessing.chain import make_chain
from birdnet_fs.audio.read import read_audio
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.data.segments import cut_segments
from birdnet_fs.data.synthetic.noise import KINDS, synthesize_noise
from birdnet_fs.data.synthetic.song import SAMPLE_RATE_HZ
from birdnet_fs.data.windows import overlap_rule
from birdnet_fs.inference.activations import to_logits
from birdnet_fs.inference.open import open_engine
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.metrics.calibration_error import calibration_error, calibration_summary
from birdnet_fs.metrics.classification import cmap

CHAINS = (
    *("smooth", "smooth:kernel=1/2/1", "delta", "file_topk", "file_topk:k=2:power=0.4", "tail_power:top=3"),
    *("file_topk:k=1:power=0.4,smooth:kernel=1/4/1",),
)
PRECISION = 0.9
BATCH = 32


def features_of(engine, waveform, rate):
    """Features of the windows of a waveform, and the number of windows."""
    import soxr

    if rate != engine.sample_rate_hz:
        waveform = soxr.resample(waveform, rate, engine.sample_rate_hz)
    rule = overlap_rule(engine.segment_s, engine.sample_rate_hz, 0.0)
    windows = np.stack([window for _, window in rule.stream([waveform.astype(np.float32)])])
    return np.concatenate([engine.encoder.features(windows[i : i + BATCH]) for i in range(0, len(windows), BATCH)])


def embedded(engine, data, work):
    """Features of the labeled windows, of jura24h and of synthetic noise; kept in `work`."""
    file = work / "decisions.npz"
    if file.is_file():
        return dict(np.load(file, allow_pickle=False))
    settings = schema.Data(
        root=str(data), table="annotations.csv", audio="audio", label_column="label", where="set=soundscape_mix",
        multi_label=True, timed_rows="events",
    )  # fmt: skip
    manifest = read_manifest(settings, classes=engine.classes)
    segments = cut_segments(
        manifest, segment_s=engine.segment_s, segment_hop_s=0.0, min_overlap_s=0.1, sample_rate_hz=engine.sample_rate_hz
    )
    found = {"features": [], "targets": [], "recording": []}
    for path in dict.fromkeys(segment.path for segment in segments):
        own = sorted((s for s in segments if s.path == path), key=lambda s: s.onset_s)
        waveform = read_audio(path, sample_rate_hz=engine.sample_rate_hz).waveform
        rows = features_of(engine, waveform, engine.sample_rate_hz)
        assert len(rows) == len(own), (path, len(rows), len(own))
        found["features"].append(rows)
        found["targets"].append([[name in s.labels for name in engine.classes] for s in own])
        found["recording"] += [Path(path).name] * len(own)
    out = {key: np.concatenate(value) for key, value in found.items() if key != "recording"}
    out["recording"] = np.array(found["recording"])
    quiet = sorted((data / "audio").glob("jura24h*"))
    out["jura24h"] = np.concatenate(
        [
            features_of(engine, read_audio(p, sample_rate_hz=engine.sample_rate_hz).waveform, engine.sample_rate_hz)
            for p in quiet
        ]
    )
    for kind in KINDS:
        out[kind] = np.concatenate(
            [features_of(engine, synthesize_noise(kind, RECORDING_S, number=n), SAMPLE_RATE_HZ) for n in range(3)]
        )
    np.savez_compressed(file, **out)
    return out


def splits(data):
    """Split by recording: name -> train, val or test."""
    import csv

    with open(data / "metadata.csv", newline="", encoding="utf-8") as file:
        return {row["filename"]: row["split"] for row in csv.DictReader(file) if row["set"] == "soundscape_mix"}


def mean(values, digits=3):
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("."))
    given = parser.parse_args()
    engines = [open_engine(run) for run in given.runs]
    kept = embedded(engines[0], given.data, given.work)
    part = np.array([splits(given.data)[name] for name in kept["recording"].tolist()])
    targets, recording = kept["targets"].astype(int), kept["recording"]
    scores = [expit(engine.head(kept["features"])) for engine in engines]
    n = {name: (part == name).sum() for name in ("train", "val", "test")}
    print(f"windows: {n}; recordings: { ({k: len(set(recording[part == k])) for k in n}) }")
    calibration(scores, targets, recording, part)
    false_alarms(engines, scores, kept, targets, recording, part)
    post_processing(engines[0].classes, scores, targets, recording, part)


def calibration(scores, targets, recording, part):
    print("\nCalibration error (mean over classes, 10 bins): fitted to one part, measured on the other")
    for source, target in (("val", "test"), ("test", "val")):
        a, b = np.flatnonzero(part == source), np.flatnonzero(part == target)
        for name in ("none", "temperature", "platt", "isotonic"):
            rows, wrong = [], []
            for p in scores:
                log_odds = to_logits(p, "sigmoid")
                after = p[b]
                if name != "none":
                    after = expit(fit_maps(log_odds[a], targets[a], recording[a], name).maps(log_odds[b]))
                error = calibration_error(targets[b], after)
                rows.append([np.nanmean(each[error.n_positives > 0]) for each in (error.ece, error.over, error.under)])
                interval = calibration_summary(targets[b], after, recording[b])["all"]["ece"]
                wrong.append((interval.low, interval.high))
            ece, over, under = np.mean(rows, axis=0)
            low, high = np.mean(wrong, axis=0)
            print(
                f"  {source} -> {target} {name:12} ECE {ece:.4f} ({low:.4f} to {high:.4f}) over {over:.4f} under "
                f"{under:.4f}"
            )


def false_alarms(engines, scores, kept, targets, recording, part):
    print(f"\nThresholds for a precision of {PRECISION} chosen on one part, precision and recall on the other")
    for source, target in (("val", "test"), ("test", "val"), ("val+test", "val+test")):
        a, b = (np.flatnonzero(np.isin(part, name.split("+"))) for name in (source, target))
        for seed, (engine, p) in enumerate(zip(engines, scores, strict=True)):
            log_odds = to_logits(p, "sigmoid")
            maps = fit_maps(log_odds[a], targets[a], recording[a]).maps
            calibrated = expit(maps(log_odds)).astype(np.float32)
            chosen = choose_thresholds(calibrated[a], targets[a], recording[a], [PRECISION])[PRECISION]
            limits = np.array([np.inf if each.threshold is None else each.threshold for each in chosen], np.float32)
            detected = calibrated[b] >= limits
            right = int((detected & (targets[b] > 0)).sum())
            given = np.isfinite(limits)
            noise = {
                kind: NoiseScores(
                    expit(maps(engine.head(kept[kind]).astype(np.float64))).astype(np.float32),
                    len(kept[kind]) * engine.segment_s / 3600,
                )
                for kind in (*KINDS, "jura24h")
            }
            alarms = count_false_alarms(noise, limits)
            plain = {
                kind: int((expit(engine.head(kept[kind])) >= 0.25).sum()) / each.hours for kind, each in noise.items()
            }
            print(
                f"  {source} -> {target} seed {seed}: {given.sum()} of {len(limits)} classes; precision {right}/"
                f"{detected.sum()}, recall {right / max(targets[b][:, given].sum(), 1):.2f}; false alarms per hour:"
            )
            for kind, found in alarms.items():
                rate, upper = found.per_hour, found.upper_per_hour
                print(f"    {kind} {rate:.0f} (at most {upper:.0f}; {plain[kind]:.0f} with a threshold of .25)")


def post_processing(classes, scores, targets, recording, part):
    print("\nPost-processing: macro AUROC and cmAP, mean ± standard deviation over the heads")
    for name in ("val", "test"):
        rows = np.flatnonzero(part == name)
        for text in ("", *CHAINS):
            chain, values = make_chain(text, classes), []
            for p in scores:
                after = p.astype(np.float32).copy()
                for one in dict.fromkeys(recording[rows].tolist()):
                    own = np.flatnonzero(recording == one)
                    after[own] = chain(after[own])
                area, precision = macro_auroc(targets[rows], after[rows]).value, cmap(targets[rows], after[rows])
                error = calibration_error(targets[rows], after[rows])
                values.append((area, precision, np.nanmean(error.ece[error.n_positives > 0])))
            area, precision, ece = zip(*values, strict=True)
            print(f"  {name} {text or 'none':45} AUROC {mean(area)}  cmAP {mean(precision)}  ECE {mean(ece)}")


if __name__ == "__main__":
    main()
