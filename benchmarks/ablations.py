"""Gain by each part of the recipe on real recordings: 5 folds, several seeds, a row a part, as a Markdown table.

    python benchmarks/ablations.py [--only masks,mixup] [--seeds 0,1] [--output runs/ablations]

birds10 (10 species, 100 recordings), `cnn/small` from scratch with nothing but random crops, then with one part more in
each row; frames of 32 ms. Folds that are there are kept.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECIPE = "birds10_cnn"
BARE = (
    "frontend.hop_length=1024",
    "training.threads=1",
    "augmentation.crop=random",
    "augmentation.mixup.p=0",
    "augmentation.noise.p=0",
    "augmentation.eq_db=0",
    "augmentation.freq_shift=0",
    "augmentation.time_masks.n=0",
    "augmentation.freq_masks.n=0",
    "training.loss.label_smoothing=0",
)
ALL = BARE[:2]  # the recipe as config.py has it
EVERY = (  # what birds10_cnn has and birds10 has not
    "training.threads=1",
    "augmentation.crop=active",
    "augmentation.eq_db=6",
    "augmentation.freq_shift=2",
    "augmentation.time_masks.n=2",
    "augmentation.freq_masks.n=2",
    "training.loss.label_smoothing=0.1",
)
PRETRAINED = "all, started from xc171"
LARGE = "mixup and noise, `cnn/large` started from xc171"
PARTS = {
    "random crops alone": BARE,
    "+ crops of what is loud": (*BARE, "augmentation.crop=active"),
    "+ masks (SpecAugment)": (*BARE, "augmentation.time_masks.n=2", "augmentation.freq_masks.n=2"),
    "+ mixup of waveforms": (*BARE, "augmentation.mixup.p=0.5"),
    "+ background noise": (*BARE, "augmentation.noise.p=0.5"),
    "+ mixup and noise": (*BARE, "augmentation.mixup.p=0.5", "augmentation.noise.p=0.5"),
    "+ equalizer, shift of bands": (*BARE, "augmentation.eq_db=6", "augmentation.freq_shift=2"),
    "+ stretch and pitch": (*BARE, "augmentation.stretch.p=0.5", "augmentation.pitch.p=0.5"),
    "+ CutMix": (*BARE, "augmentation.cutmix.p=0.5"),
    "+ label smoothing": (*BARE, "training.loss.label_smoothing=0.1"),
    "all of `birds10_cnn`": ALL,
    "all, mean of weights (EMA .99)": (*ALL, "training.optimizer.ema=0.99"),
    "all, focal loss": (*ALL, "training.loss=focal", "training.loss.label_smoothing=0"),
    PRETRAINED: ("RECIPE=birds10", *EVERY),
    "all, from scratch, taught by the runs of the row above": (*ALL, f"TEACHER={PRETRAINED}"),
    "mixup and noise, started from xc171 (`birds10`)": ("RECIPE=birds10", "training.threads=1"),
    LARGE: (
        *("RECIPE=birds10", "training.threads=1"),
        *("model.name=cnn/large", "pretrain.model.name=cnn/large"),
    ),
    "mixup and noise, from scratch, taught by `cnn/large`": (
        *(*BARE, "augmentation.mixup.p=0.5", "augmentation.noise.p=0.5"),
        f"TEACHER={LARGE}",
    ),
    "`birds10`, taught by `cnn/large`": ("RECIPE=birds10", "training.threads=1", f"TEACHER={LARGE}"),
}


def trained(name: str, settings: tuple[str, ...], seeds: str, output: Path, data: Path) -> dict[str, object]:
    """Every fold and seed of one row, by `birdnet-fs cv`: what its cv.json says, with seconds a fold.

    A row that is taught has each fold taught by that fold's run of the row it names.
    """
    recipe = next((s.split("=")[1] for s in settings if s.startswith("RECIPE=")), RECIPE)
    place = folder_of(output, name)
    teacher = next((folder_of(output, s.split("=", 1)[1]) for s in settings if s.startswith("TEACHER=")), "")
    named = (f"distillation.teacher={teacher}" if s.startswith("TEACHER=") else s for s in settings)
    wanted = [s for s in named if not s.startswith("RECIPE=")]
    command = [sys.executable, "-m", "birdnet_fs.cli.main", "cv", f"{ROOT / 'config.py'}:{recipe}", f"data.root={data}"]
    subprocess.run([*command, *wanted, "--seeds", seeds, "-o", str(place)], check=True, stdout=subprocess.DEVNULL)
    summary = json.loads((place / "cv.json").read_text(encoding="utf-8"))
    seconds = []
    for fold in summary["folds"]:
        with (Path(fold["run"]) / "history.csv").open(encoding="utf-8") as file:
            seconds.append(float(list(csv.DictReader(file))[-1]["seconds"]))
    return {**summary, "seconds": statistics.mean(seconds)}


def folder_of(output: Path, name: str) -> Path:
    """Folder of the runs of a row."""
    return output / "".join(c if c.isalnum() else "_" for c in name).strip("_")


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="rows with one of these words, by comma")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--precision", default="float32", help="bfloat16 is twice as fast where the CPU has it")
    parser.add_argument("--output", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    asked = parser.parse_args()
    if not asked.data.is_dir():
        raise SystemExit(f"The recordings of birds10 are needed in {asked.data}; give their folder with --data.")
    words = [word for word in asked.only.split(",") if word]
    print("| recipe | accuracy | macro AUROC | seconds a fold |\n|---|---|---|---|", flush=True)
    for name, settings in PARTS.items():
        if words and not any(word in name for word in words):
            continue
        found = trained(
            name, (*settings, f"training.precision={asked.precision}"), asked.seeds, asked.output, asked.data
        )
        accuracy, auroc = (f"{found[key]['mean']:.3f} ± {found[key]['std']:.3f}" for key in ("accuracy", "macro_auroc"))
        print(f"| {name} | {accuracy} | {auroc} | {found['seconds']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
