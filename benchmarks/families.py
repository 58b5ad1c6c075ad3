"""Every family on birds10 with one quick recipe: accuracy, macro AUROC, seconds and parameters, as a Markdown table.

    python benchmarks/families.py [--only rnn/lstm,vit/tiny] [--folds 0,1] [--output runs/families]

The recipe is the same for all (`birds10_cnn` of config.py from scratch, fewer epochs, frames of 32 ms, one seed): it
compares what the networks do with 80 clips and few minutes, not what each can reach. Runs that are there are kept.
"""

import argparse
import json
import statistics
from pathlib import Path

from birdnet_fs import models
from birdnet_fs.cli.experiment import load_experiment
from birdnet_fs.core.errors import UserError
from birdnet_fs.reports.held_out import report_on_held_out
from birdnet_fs.runs.history import read_history
from birdnet_fs.runs.resolve import is_finished
from birdnet_fs.runs.run import load_run
from birdnet_fs.training.trainer import train

ROOT = Path(__file__).resolve().parents[1]
QUICK = (
    "training.epochs=15",
    "training.batch_size=10",
    "training.learning_rate=5e-4",
    "training.threads=1",
    "frontend.hop_length=1024",
)
ONE_EACH = (
    "cnn/small",
    "efficientnet_v2/b0",
    "ghost_efficientnet_v2/0.75",
    "resnet/18",
    "convnext/tiny",
    "panns/cnn14",
    "panns/mobilenet_v1",
    "panns/mobilenet_v2",
    "rnn/lstm",
    "rnn/gru",
    "vit/tiny",
    "tilenet/v2",
    "prototypical/v1",
    "prototypical/v2",
)


def row(name: str, folds: list[int], output: Path, data: Path) -> str:
    """Train and score one network on some folds: a row of the table."""
    metrics, seconds = [], []
    for fold in folds:
        settings = [*QUICK, f"model.name={name}", f"data.fold={fold}", f"data.root={data}"]
        experiment = load_experiment(f"{ROOT / 'config.py'}:birds10_cnn", settings)
        place = output / name.replace("/", "_") / f"fold{fold}"
        if not (is_finished(place, experiment) and (place / "metrics.json").is_file()):
            report_on_held_out(train(experiment, place))
        metrics.append(json.loads((place / "metrics.json").read_text(encoding="utf-8")))
        seconds.append(read_history(place / "history.csv")[-1]["seconds"])
    parameters = load_run(place).build_model().count_params()
    accuracy, auroc = (statistics.mean(m[key] for m in metrics) for key in ("accuracy", "macro_auroc"))
    return f"| `{name}` | {parameters:,} | {accuracy:.2f} | {auroc:.3f} | {statistics.mean(seconds):.0f} |"


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(ONE_EACH))
    parser.add_argument("--folds", default="0,1,2,3,4")
    parser.add_argument("--output", type=Path, default=Path("runs/families"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    asked = parser.parse_args()
    if not asked.data.is_dir():
        raise SystemExit(f"The recordings of birds10 are needed in {asked.data}; give their folder with --data.")
    folds = [int(fold) for fold in asked.folds.split(",")]
    print("| network | parameters | accuracy | macro AUROC | seconds a fold |\n|---|---|---|---|---|", flush=True)
    for name in asked.only.split(","):
        try:
            print(row(models.resolve(name), folds, asked.output, asked.data), flush=True)
        except UserError as error:
            print(f"| `{name}` | | {error} | | |", flush=True)


if __name__ == "__main__":
    main()
