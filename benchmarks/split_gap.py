"""The gap between random, grouped and held-out splits, measured on windows of birds10.

    python benchmarks/split_gap.py ../shared/data OUTPUT config.py:birds10_birdnet model.encoder=FILE

Two windows of 3 s of each of the 100 clips of ten species are cross-validated in three folds with one experiment: in
random folds of windows (the other window of the same recording may be in training), in folds of whole recordings, and
in folds of whole recordists, whose places and recorders are then as new as those of another site. The last lines are
those of `birdnet-fs compare`. Further arguments are settings of the experiment.
"""

import csv
import subprocess
import sys
from pathlib import Path

WINDOW_S = 3
SPLITS = {"random": "window", "grouped": "recording", "held_out": "recordist"}


def write_windows(data, path):
    """A table with one row for each window, and what it is of."""
    with open(data / "metadata.csv", newline="") as file:
        clips = [row for row in csv.DictReader(file) if row["set"] == "birds10"]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("filename", "start", "end", "label", "window", "recording", "recordist"))
        for row in clips:
            for start in range(0, int(float(row["duration"])) - WINDOW_S + 1, WINDOW_S):
                place = (data / "audio" / row["filename"], start, start + WINDOW_S)
                writer.writerow((*place, row["label"], f"{row['group']}_{start}", row["group"], row["author"]))


def main():
    data, output, *settings = sys.argv[1:]
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    write_windows(Path(data).absolute(), folder / "windows.csv")
    command = [sys.executable, "-m", "birdnet_fs.cli.main"]
    where = [f"data.root={folder}", "data.table=windows.csv", "data.audio=", "data.where=", "data.timed_rows=clips"]
    for name, column in SPLITS.items():
        groups = ["data.fold_column=", f"data.group_column={column}", "data.background=", "data.n_folds=3"]
        subprocess.run([*command, "cv", *settings, *where, *groups, "-o", folder / name], check=True)
    subprocess.run([*command, "compare", *(f"{name}={folder / name}" for name in SPLITS)], check=True)


if __name__ == "__main__":
    main()
