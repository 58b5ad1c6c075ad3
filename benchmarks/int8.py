"""Cost of 8 bits in accuracy, and gain in size and speed: float, rounded after training, trained with rounding.

    python benchmarks/int8.py [--model cnn/small] [--seeds 0,1,2] [--folds 0,1,2,3,4] [--output runs/int8]
    python benchmarks/int8.py --runs runs/birds10/fold0,runs/birds10/fold1

Every float run (of birds10, a seed and a fold each, or those of --runs) is exported in fp32 and, rounded after
training, in int8; trained on with rounding (`birdnet-fs quantize`) and exported in int8 again. The files of one run
score the clips that it held out on the runtime that ships, features in, and are timed in turns on one thread. A
Markdown table with the mean of each over the runs, and its spread; runs and files that are there are kept.
"""

import argparse
import statistics
from pathlib import Path

from birdnet_fs.cli.experiment import load_experiment
from birdnet_fs.core.settings import override
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.export.export import export_run
from birdnet_fs.export.runtimes.benchmark import measure_in_turns
from birdnet_fs.inference.clips import score_clips
from birdnet_fs.inference.open import open_engine
from birdnet_fs.metrics import classification
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.reports.held_out import report_on_held_out
from birdnet_fs.runs.provenance import held_out_clips
from birdnet_fs.runs.resolve import is_finished
from birdnet_fs.runs.run import Run, load_run
from birdnet_fs.training.qat import qat_experiment
from birdnet_fs.training.trainer import train

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("float, fp32", "rounded after training, int8", "trained with rounding, int8")


def float_runs(asked: argparse.Namespace) -> list[Run]:
    """The float runs, trained where they are not there."""
    if asked.runs:
        return [load_run(path) for path in asked.runs.split(",")]
    runs = []
    for seed in asked.seeds.split(","):
        for fold in asked.folds.split(","):
            settings = [f"model.name={asked.model}", f"seed={seed}", f"data.fold={fold}", f"data.root={asked.data}"]
            experiment = load_experiment(f"{ROOT / 'config.py'}:birds10_cnn", [*settings, *asked.settings])
            place = asked.output / asked.model.replace("/", "_") / f"seed{seed}_fold{fold}"
            if not is_finished(place, experiment):
                train(experiment, place)
            runs.append(load_run(place))
    return runs


def artifacts(run: Run, output: Path, settings: list[str]) -> list[Path]:
    """A file for each of KINDS."""
    experiment = override(qat_experiment(run), settings)
    learned = output / "quantized"
    if not is_finished(learned, experiment):
        report_on_held_out(train(experiment, learned))
    found = []
    for one, precision in ((run, "fp32"), (run, "int8"), (load_run(learned), "int8")):
        name = "learnt" if one is not run else "plain"
        file = output / (f"{name}_{precision}.tflite" if precision != "fp32" else f"{name}.tflite")
        if not file.is_file():
            export_run(one, output, name=name, input="features", precision=(precision,))
        found.append(file)
    return found


def scores(file: Path, run: Run) -> tuple[float, float]:
    """Macro AUROC and accuracy on the clips that the run held out."""
    scored = score_clips(open_engine(file, threads=1), held_out_clips(run))
    targets = clip_targets(scored.clips, run.classes, multi_label=run.multi_label)
    return macro_auroc(targets, scored.probabilities).value, classification.accuracy(targets, scored.probabilities)


def spread(values: list[float], digits: int) -> str:
    """Mean and standard deviation."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", default="", help="Float runs with what they held out, separated by commas.")
    parser.add_argument("--model", default="cnn/small")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--folds", default="0,1,2,3,4")
    parser.add_argument("--output", type=Path, default=Path("runs/int8"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seconds", type=float, default=5.0, help="To time each file for.")
    parser.add_argument("--quantize", nargs="*", default=[], help="Settings of the training with rounding.")
    parser.add_argument("settings", nargs="*", help="Settings of the float runs.")
    asked = parser.parse_args()
    rows: dict[str, list[tuple[float, ...]]] = {kind: [] for kind in KINDS}
    for i, run in enumerate(float_runs(asked)):
        place = asked.output / f"{i}_{run.path.parent.name}_{run.path.name}"
        place.mkdir(parents=True, exist_ok=True)
        files = artifacts(run, place, asked.quantize)
        times = measure_in_turns(files, seconds=asked.seconds)
        sizes = [file.stat().st_size for file in files]
        for kind, file, size, time in zip(KINDS, files, sizes, times, strict=True):
            ratios = (sizes[0] / size, times[0].median_ms / time.median_ms)
            rows[kind].append((*scores(file, run), *ratios))
            print(f"{run.path} {kind}: {', '.join(f'{value:.4f}' for value in rows[kind][-1])}", flush=True)
    print(f"\n{len(next(iter(rows.values())))} runs")
    print("| network | macro AUROC | accuracy | times smaller | times faster |\n|---|---|---|---|---|")
    for kind, found in rows.items():
        columns = [list(column) for column in zip(*found, strict=True)]
        cells = [spread(column, digits) for column, digits in zip(columns, (4, 3, 2, 2), strict=True)]
        print(f"| {kind} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
