"""Effect of each way of handling imbalance on a rare species in real recordings, as a Markdown table.

    python benchmarks/rare_class.py [--only sampling] [--seeds 0] [--output runs/rare_class]

birds10 with one species down to 2 recordings in training: ten trainings, each species rare in one of them, each on the
held-out fold of its number modulo 5. The rare species' columns are means over ten species (20 clips a seed: the error
of its recall is .1), the others' over all clips that are not of the rare species. Runs that are there are kept.
"""

import argparse
import csv
import statistics
from pathlib import Path

from birdnet_fs.cli.experiment import load_experiment
from birdnet_fs.data.score_table import read_scores
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.reports.held_out import report_on_held_out
from birdnet_fs.runs.resolve import is_finished
from birdnet_fs.training.trainer import train

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("frontend.hop_length=1024", "training.threads=1", "data.split=table", "data.background=")
WAYS = {
    "nothing": (),
    "class weights, inverse": ("training.loss.class_weights=inverse",),
    "class weights, square root of inverse": ("training.loss.class_weights=sqrt_inverse",),
    "class weights, effective number": ("training.loss.class_weights=effective",),
    "class weights, effective number, rare boost 3": (
        "training.loss.class_weights=effective",
        "training.loss.rare_class_weight=3",
    ),
    "sampling, inverse": ("training.sampling=inverse",),
    "sampling, square root of inverse": ("training.sampling=sqrt_inverse",),
    "oversampling to 8 clips": ("training.sampling.min_clips_per_class=8",),
    "focal loss": ("training.loss=focal", "training.loss.label_smoothing=0"),
}
N_RARE = 2


def table_with_rare(rare: str, fold: int, data: Path, file: Path) -> None:
    """birds10 with a split column: `fold` is held out, and all but N_RARE of the training clips of `rare` are gone."""
    with (data / "metadata.csv").open(encoding="utf-8", newline="") as source:
        rows = [row for row in csv.DictReader(source) if row["set"] == "birds10"]
    kept, n_rare = [], 0
    for row in rows:
        test = int(row["fold"]) == fold
        if row["label"] == rare and not test:
            n_rare += 1
            if n_rare > N_RARE:
                continue
        kept.append(
            {"filename": row["filename"], "label": row["label"], "group": row["group"]}
            | {"split": "test" if test else "train"}
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)


def species(data: Path) -> list[str]:
    """The ten classes in the order of their names."""
    with (data / "metadata.csv").open(encoding="utf-8", newline="") as source:
        return sorted({row["label"] for row in csv.DictReader(source) if row["set"] == "birds10"})


def row(name: str, settings: tuple[str, ...], seeds: list[int], output: Path, data: Path, precision: str) -> str:
    """Train and score one way over seeds and species: a row of the table."""
    recalls, aurocs, others = [], [], []
    for seed in seeds:
        for number, rare in enumerate(species(data)):
            file = output.resolve() / "tables" / f"rare{number}.csv"
            table_with_rare(rare, number % 5, data, file)
            given = [*QUICK, *settings, f"data.root={data}", f"data.table={file}", f"seed={seed}", "data.where="]
            given.append(f"training.precision={precision}")
            experiment = load_experiment(f"{ROOT / 'config.py'}:birds10_cnn", given)
            place = output / "".join(c if c.isalnum() else "_" for c in name) / f"seed{seed}" / f"rare{number}"
            if not (is_finished(place, experiment) and (place / "metrics.json").is_file()):
                report_on_held_out(train(experiment, place))
            scores = read_scores(place / "scores.csv")
            column, right = list(scores.classes).index(rare), scores.scores.argmax(1) == scores.targets.argmax(1)
            own = scores.targets[:, column] > 0
            recalls.append(float(right[own].mean()))
            others.append(float(right[~own].mean()))
            aurocs.append(float(macro_auroc(scores.targets, scores.scores).per_class[column]))
    mean = statistics.mean
    return f"| {name} | {mean(recalls):.2f} | {mean(aurocs):.3f} | {mean(others):.3f} |"


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="rows with one of these words, by comma")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--precision", default="float32", help="bfloat16 is twice as fast where the CPU has it")
    parser.add_argument("--output", type=Path, default=Path("runs/rare_class"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    asked = parser.parse_args()
    if not asked.data.is_dir():
        raise SystemExit(f"The recordings of birds10 are needed in {asked.data}; give their folder with --data.")
    words, seeds = [word for word in asked.only.split(",") if word], [int(s) for s in asked.seeds.split(",")]
    print("| | recall of the rare species | its AUROC | accuracy of the others |\n|---|---|---|---|", flush=True)
    for name, settings in WAYS.items():
        if not words or any(word in name for word in words):
            print(row(name, settings, seeds, asked.output, asked.data.resolve(), asked.precision), flush=True)


if __name__ == "__main__":
    main()
