"""Prior by hour of the day, measured on held-out recordings of jura24h.

    python benchmarks/prior.py ../shared/data OUTPUT model.encoder=FILE

The 66 recordings of 10 s of a forest in one day that an automatic rule marked as active or not are divided in two
halves by recording, twice (seeds 0 and 1). A head is trained on one half, `birdnet-fs prior RUN --by hour` is fitted to
it, and the other half is scored with and without the prior. All recordings are of the same day, and the mark is no
human label: this shows that the road works, and what a prior changes at most.
"""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

from birdnet_fs.analysis.postprocessing.chain import Windows, make_chain
from birdnet_fs.data.partition import HELD_OUT, PARTITION, read_partition
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.inference.clips import score_clips
from birdnet_fs.inference.open import open_engine
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.metrics.classification import cmap

COMMAND = (sys.executable, "-m", "birdnet_fs.cli.main")
HALVES = [(seed, fold) for seed in range(2) for fold in range(2)]


def write_recordings(data, folder):
    """Links to the recordings under the names that their recorder gave them, with the time of day, and a table."""
    with open(data / "metadata.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "jura24h" and row["label"]]
    with open(folder / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("filename", "label"))
        for row in rows:
            name = f"{Path(row['source_path']).stem}.flac"
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(data / "audio" / row["filename"])
            writer.writerow((name, row["label"]))


def measure(run, table):
    """Log loss, AUROC and AP of the held-out half without and with the prior."""
    engine = open_engine(run)
    found = score_clips(engine, read_partition(run / PARTITION, HELD_OUT))
    targets = clip_targets(found.clips, engine.classes, multi_label=True)
    chain, rows = make_chain(f"hours:table={table}", engine.classes), []
    plain = found.probabilities.astype(np.float32)
    weighted = np.concatenate(
        [chain(plain[i : i + 1], Windows(clip.path, np.array([clip.onset_s]))) for i, clip in enumerate(found.clips)]
    )
    for scores in (plain, weighted):
        p = scores.astype(np.float64).clip(1e-6, 1 - 1e-6)
        loss = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean()
        rows.append((loss, macro_auroc(targets, scores).value, cmap(targets, scores)))
    return rows


def main():
    data, output, *settings = sys.argv[1:]
    folder, found = Path(output).absolute(), []
    folder.mkdir(parents=True, exist_ok=True)
    write_recordings(Path(data).absolute(), folder)
    given = [f"data.root={folder}", "data.table=labels.csv", "data.audio=", "data.where=", "data.multi_label=true"]
    given += ["data.fold_column=", "data.group_column=filename", "data.n_folds=2"]
    for seed, fold in HALVES:
        run, table = folder / f"run_{seed}_{fold}", folder / f"hours_{seed}_{fold}.csv"
        train = [*COMMAND, "train", "config.py:birds10_birdnet", *given, *settings, f"seed={seed}", f"data.fold={fold}"]
        subprocess.run([*train, "-o", run], check=True)
        subprocess.run([*COMMAND, "prior", run, "--by", "hour", "-o", table], check=True)
        found.append(measure(run, table))
    for name, rows in zip(("without", "with"), zip(*found, strict=True), strict=True):
        means, deviations = np.mean(rows, axis=0), np.std(rows, axis=0)
        columns = zip(("log loss", "AUROC", "AP"), means, deviations, strict=True)
        print(f"{name:8}" + ", ".join(f"{key} {mean:.3f} ± {deviation:.3f}" for key, mean, deviation in columns))


if __name__ == "__main__":
    main()
