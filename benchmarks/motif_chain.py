"""Cost of the chain from recordings to a submission, by its commands, as a Markdown table.

    python benchmarks/motif_chain.py [--data ../shared/data] [--recordings 1000] [--folder chain] [--batches 50]

Recordings of 30 s in BirdCLEF-2022 layout: each is two clips of one species of birds10, laid over recordings without
calls of jura24h at random places. Windows without calls and the test are soundscape_mix. Every command is a process of
its own; its CPU time is that of all its processes, and the last column is CPU time per hour of audio that it reads or
writes, times 1,000. `embed fit` is a fixed number of batches of 64 triplets, whatever the number of recordings.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

from birdnet_fs.audio.read import read_audio
from birdnet_fs.core.progress import track

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RATE_HZ, LONG_S, CLIP_S = 32_000, 30, 5.0


def rows_of(data: Path, table: str, **values: str) -> list[dict[str, str]]:
    with open(data / table, encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[key] == value for key, value in values.items())]


def waveform_of(data: Path, row: dict[str, str]) -> np.ndarray:
    return read_audio(data / "audio" / row["filename"], sample_rate_hz=RATE_HZ).waveform


def write_recordings(data: Path, root: Path, n: int) -> list[str]:
    """Write recordings of each species to train_audio/, and scored_birds.json; returns the species."""
    rng = np.random.default_rng(0)
    quiet = [waveform_of(data, row) for row in rows_of(data, "metadata.csv", set="jura24h", label="nocall")]
    clips: dict[str, list[np.ndarray]] = {}
    for row in rows_of(data, "metadata.csv", set="birds10"):
        clips.setdefault(row["label"], []).append(waveform_of(data, row))
    species = sorted(clips)
    for number in track(range(n), "recordings", total=n):
        name = species[number % len(species)]
        long = np.concatenate([quiet[i] for i in rng.permutation(len(quiet))[:4]])[: LONG_S * RATE_HZ].copy()
        for _ in range(2):
            clip = clips[name][int(rng.integers(len(clips[name])))]
            start = int(rng.integers(len(long) - len(clip)))
            long[start : start + len(clip)] += 0.3 * clip / np.abs(clip).max()
        path = root / "train_audio" / name / f"XC{number}.ogg"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.clip(long, -1, 1), RATE_HZ)
    (root / "scored_birds.json").write_text(json.dumps(species))
    return species


def write_soundscapes(data: Path, old: Path, new: Path, species: list[str]) -> None:
    """soundscape_mix in the layout of BirdCLEF-2021 with its windows, and as test of BirdCLEF-2022."""
    (old / "train_soundscapes").mkdir(parents=True)
    (new / "test_soundscapes").mkdir(parents=True)
    files = {row["filename"]: i for i, row in enumerate(rows_of(data, "metadata.csv", set="soundscape_mix"))}
    for file, number in files.items():
        (old / "train_soundscapes" / f"{number}_MIX_20210101{Path(file).suffix}").symlink_to(data / "audio" / file)
        (new / "test_soundscapes" / f"soundscape_{number}{Path(file).suffix}").symlink_to(data / "audio" / file)
    with open(old / "train_soundscape_labels.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row_id", "site", "audio_id", "seconds", "birds"])
        for row in rows_of(data, "windows_5s.csv"):
            if row["filename"] in files:
                end, number = round(float(row["end"])), files[row["filename"]]
                labels = row["labels"].replace(";", " ")
                writer.writerow([f"{number}_MIX_{end}", "MIX", number, end, labels])
    with open(new / "test.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row_id", "file_id", "bird", "end_time"])
        for number in files.values():
            name = f"soundscape_{number}"
            writer.writerows([f"{name}_{b}_{e}", name, b, e] for e in range(5, 61, 5) for b in species)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--recordings", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path("chain"))
    parser.add_argument("--batches", type=int, default=50)
    arguments = parser.parse_args()
    root = arguments.folder
    root.mkdir(parents=True)  # a folder of its own: everything is timed from the start
    species = write_recordings(arguments.data, root / "birdclef-2022", arguments.recordings)
    write_soundscapes(arguments.data, root / "birdclef-2021", root / "birdclef-2022", species)
    recorded_h = arguments.recordings * LONG_S / 3600
    per_class = max(1, arguments.recordings // len(species))
    made_h = per_class * (len(species) + 1) * CLIP_S / 3600
    test_h = len(list((root / "birdclef-2022" / "test_soundscapes").iterdir())) / 60
    audio, scored = "birdclef-2022/train_audio", "birdclef-2022/scored_birds.json"
    classes = f"--birdclef-root birdclef-2021 --filter-set {scored}"
    train = f"classify train {classes} --motif-root augmented"
    predict = "classify predict --birdclef-root birdclef-2022 --classifier-source"
    steps = [
        (f"motifs extract {audio} -o mined", recorded_h),
        (
            f"motifs extract {audio} -o mined-k --sample-k 64 --mp-window 30",
            min(64, arguments.recordings) * LONG_S / 3600,
        ),
        ("motifs consolidate mined -o mined.parquet", recorded_h),
        (f"motifs embed fit mined.parquet {audio} --name mine --epochs 1 --batches {arguments.batches}", 0.0),
        ("motifs extract-top-motif mined --output top", recorded_h),
        (f"classify prepare-dataset --motif-root top {classes} --num-per-class {per_class} augmented", made_h),
        (f"{train} --no-use-ref-motif --embedding-checkpoint runs/mine model", made_h),
        (f"{train} --use-ref-motif --ref-motif-root mined-k --embedding-checkpoint logmel model-ref", made_h),
        (f"{predict} model submission.csv", test_h),
        (f"{predict} model-ref submission-ref.csv", test_h),
    ]
    print(f"{arguments.recordings} recordings, {recorded_h:.1f} h; {made_h:.1f} h of clips; test {test_h:.2f} h")
    print("| command | CPU s | wall s | h of audio | CPU h per 1,000 h |\n|---|---|---|---|---|", flush=True)
    for command, hours in steps:
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        with open(root / "log.txt", "a", encoding="utf-8") as log:
            subprocess.run(
                [sys.executable, "-m", "birdnet_fs.cli.main", *command.split()],
                cwd=root,
                stdout=log,
                stderr=log,
                check=True,
            )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        cost = f"{cpu / 3600 * 1000 / hours:.1f}" if hours else "-"
        print(f"| `{command}` | {cpu:.0f} | {time.monotonic() - started:.0f} | {hours:.2f} | {cost} |", flush=True)


if __name__ == "__main__":
    main()
