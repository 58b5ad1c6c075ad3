"""Compare all families of networks on birds10 with the recipes of experiments/families.py: tuned, trained, scored.

    python benchmarks/families.py --teachers runs --trials 2 --folds 0,1 -o runs/families
    python benchmarks/families.py --table -o runs/families

`--teachers` is the folder with the heads on an encoder that experiments/families.py describes (`birds10_birdnet` and
`xc171_birdnet`), and `birds10_birdnet_tune`, trained with `data.fold=0 data.val_fraction=0.25`. Each family is
pretrained on xc171 once, tuned on the training clips of fold 0 (a quarter of them are validated on; the held-out clips
are not used), and trained on the folds with the settings of the best trial. What is finished is kept; `families.json`
in the output folder holds the numbers, the settings and the CPU seconds of one thread of every step, and `--table`
prints it as the table of docs/results.md.
"""

import argparse
import contextlib
import dataclasses
import datetime
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.analysis.calibration.intervals import wilson
from birdnet_fs.cli.experiment import load_experiment, load_space
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.json_file import read_json
from birdnet_fs.data.score_table import read_scores
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.metrics.bootstrap import bootstrap
from birdnet_fs.reports.evaluate import SCORES
from birdnet_fs.reports.held_out import report_on_held_out
from birdnet_fs.runs.resolve import is_finished
from birdnet_fs.runs.run import load_run
from birdnet_fs.training.trainer import PRETRAIN, pretrain, train
from birdnet_fs.tuning.study import Study
from birdnet_fs.tuning.trial_summary import best_first
from birdnet_fs.tuning.worker import check_tuning, free_memory, keep_or_compare_inputs, work

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "config.py"
RESULTS = "families.json"
TEACHERS = {"distillation": "birds10_birdnet", "pretrain.distillation": "xc171_birdnet"}
TUNED_BY = "birds10_birdnet_tune"  # teacher of the trials
NAMES = (  # in the order of their use
    "birds10_cnn_tiny",
    "birds10_cnn_small",
    "birds10_efficientnet_b0",
    "birds10_efficientnet_v2_b0",
    "birds10_mobilenet_v2",
    "birds10_mobilenet_v1",
    "birds10_resnet_18",
    "birds10_rnn_lstm",
    "birds10_rnn_gru",
    "birds10_vit_tiny",
    "birds10_ghost_efficientnet_v2",
    "birds10_convnext_tiny",
    "birds10_cnn14",
)
# with one recipe for all, from random weights (docs/results.md, version 0.1, 2026-11-21): accuracy, macro AUROC
BEFORE = {
    "cnn/small": (0.65, 0.901),
    "rnn/lstm": (0.25, 0.742),
    "rnn/gru": (0.35, 0.735),
    "vit/tiny": (0.20, 0.579),
    "efficientnet_v2/b0": (0.32, 0.681),
    "resnet/18": (0.57, 0.876),
    "ghost_efficientnet_v2/0.75": (0.30, 0.729),
    "convnext/tiny": (0.20, 0.661),
    "panns/cnn14": (0.15, 0.628),
    "panns/mobilenet_v1": (0.12, 0.519),
    "panns/mobilenet_v2": (0.15, 0.635),
}
REFERENCE = "birds10_birdnet"  # row of the teacher itself
HEADER = (
    "| network | parameters | before: accuracy | macro AUROC | accuracy (95 %) | macro AUROC (95 %) | "
    "CPU minutes: pretraining | tuning (trials) | a fold |\n|---|---|---|---|---|---|---|---|---|"
)
SHOWN = (("accuracy", 2), ("macro_auroc", 3))  # metrics with their digits
Z95 = 1.959964


def table(results: Mapping[str, Any]) -> list[str]:
    """Lines of the table of docs/results.md, header included; reads the content of `families.json` only."""
    rows = HEADER.splitlines()
    for name, row in results.items():
        if "accuracy" not in row:  # not finished
            continue
        numbers = " | ".join(f"{row[key][0]:.{n}f} ({row[key][1]:.2f}-{row[key][2]:.2f})" for key, n in SHOWN)
        if name == REFERENCE:
            rows.append(f"| the teacher, a head on an encoder | | | | {numbers} | | | |")
            continue
        before = BEFORE.get(row["network"])
        accuracy, auroc = (f"{before[0]:.2f}", f"{before[1]:.3f}") if before else ("", "")
        first, tuning = (row["cpu_s"].get(step, 0.0) / 60 for step in ("pretrain", "tune"))
        per_fold = np.mean([row["cpu_s"][f"fold{fold}"] for fold in row["folds"]]) / 60
        tuned = f"{tuning:.1f} ({row['trials']})" if row["trials"] else ""
        rows.append(
            f"| `{row['network']}` | {row['parameters']:,} | {accuracy} | {auroc} | {numbers} | {first:.1f} | "
            f"{tuned} | {per_fold:.1f} |"
        )
    return rows


class Results:
    """The content of families.json, written after every change.

    Args:
        file: The file; it need not exist.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: dict[str, Any] = read_json(file, "delete it") if file.is_file() else {}

    def add(self, name: str, **values: Any) -> None:
        """Set values of a row."""
        self.rows.setdefault(name, {"cpu_s": {}, "folds": {}, "settings": [], "trials": 0}).update(values)
        self.rows = {each: self.rows[each] for each in (*NAMES, REFERENCE) if each in self.rows}
        write_json(self.file, self.rows)

    @contextlib.contextmanager
    def timed(self, name: str, step: str) -> Iterator[None]:
        """Add the CPU seconds of a step, interrupted or not, to those that it has taken before."""
        start = time.process_time()
        try:
            yield
        finally:
            self.add(name)
            self.rows[name]["cpu_s"][step] = round(
                self.rows[name]["cpu_s"].get(step, 0.0) + time.process_time() - start, 1
            )
            self.add(name)


def intervals(runs: Sequence[Path]) -> dict[str, tuple[float, float, float]]:
    """Value and 95 % interval of the two metrics over the held-out clips of all folds.

    The interval of the accuracy is Wilson's; that of the mean macro AUROC of the folds is from draws of recordings.
    """
    tables = [read_scores(run / SCORES) for run in runs]
    targets = np.concatenate([each.targets for each in tables])
    of_fold = [np.full((len(each.scores), 1), i) for i, each in enumerate(tables)]
    scores = np.concatenate([np.hstack([each.scores, fold]) for each, fold in zip(tables, of_fold, strict=True)])
    paths = [path for each in tables for path in each.paths]

    def mean_auroc(targets: np.ndarray, scores: np.ndarray) -> float:
        parts = [scores[:, -1] == i for i in range(len(tables))]
        return float(np.mean([macro_auroc(targets[part], scores[part, :-1]).value for part in parts if part.any()]))

    found = bootstrap(mean_auroc, targets, scores, paths, n_draws=300)
    right, n = int((targets.argmax(1) == scores[:, :-1].argmax(1)).sum()), len(targets)
    low, high = wilson(right, n, Z95)
    return {
        "accuracy": (round(right / n, 4), round(float(low), 4), round(float(high), 4)),
        "macro_auroc": (round(found.value, 4), round(found.low, 4), round(found.high, 4)),
    }


def best_settings(name: str, folder: Path, common: Sequence[str], n_trials: int, teachers: Path | None) -> list[str]:
    """Tune a recipe, and return the settings of its best trial."""
    # the trained clips of the trials are a part of those of the fold, and so must the teacher's be
    distilled = [f"distillation.teacher={teachers / TUNED_BY}"] if teachers else []
    base = load_experiment(f"{RECIPES}:{name}", [*common, "data.fold=0", "data.val_fraction=0.25", *distilled])
    space = dataclasses.replace(load_space("space_birds10_families", f"{RECIPES}:{name}"), n_trials=n_trials)
    study = Study(folder, check_tuning(base, space), space, n_kept=0)
    keep_or_compare_inputs(study)
    work(study)
    best = next(iter(best_first(study.trials())), None)
    if best is None:
        raise UserError(f"None of the trials in {folder} has a value.")
    print(f"{name}: best of {len(study.trials())} trials {best.value:.3f}: {' '.join(best.settings)}", flush=True)
    return list(best.settings)


def run_family(name: str, given: argparse.Namespace, results: Results) -> None:
    """Pretrain, tune, train and score one family, as far as that is not done."""
    folder = given.output / name
    common = [f"data.root={given.data}"]
    common += [f"{key}.teacher={given.teachers / found}" for key, found in TEACHERS.items()] if given.teachers else []
    with results.timed(name, "pretrain"):
        first = pretrain(load_experiment(f"{RECIPES}:{name}", common), folder / "tune" / PRETRAIN)
    if given.trials:
        with results.timed(name, "tune"):
            found = best_settings(name, folder / "tune", common, given.trials, given.teachers)
        results.add(name, settings=found, trials=given.trials)
    settings = results.rows[name]["settings"]
    runs = []
    for fold in given.folds:
        experiment = load_experiment(f"{RECIPES}:{name}", [*common, *settings, f"data.fold={fold}"])
        place = folder / f"fold{fold}"
        if not (is_finished(place, experiment) and (place / SCORES).is_file()):
            if (place / SCORES).is_file():  # of other settings
                results.rows[name]["cpu_s"].pop(f"fold{fold}", None)
            with results.timed(name, f"fold{fold}"):
                metrics = report_on_held_out(train(experiment, place, pretrained=first))
            folds = {**results.rows[name]["folds"], str(fold): [metrics["accuracy"], metrics["macro_auroc"]]}
            results.add(name, folds=folds)
        runs.append(place)
    run = load_run(runs[0])
    parameters = run.build_model().count_params()
    folds, teachers = ",".join(map(str, given.folds)), " --teachers runs" if given.teachers else ""
    trials = results.rows[name]["trials"]
    command = f"python benchmarks/families.py --only {name} --trials {trials} --folds {folds}{teachers}"
    when = {"command": command, "date": datetime.date.today().isoformat()}
    results.add(
        name, network=run.experiment.model.name, parameters=parameters, folds=results.rows[name]["folds"], **when
    )
    results.add(name, **intervals(runs))
    if given.teachers:
        teachers = [given.teachers / TEACHERS["distillation"] / f"fold{fold}" for fold in given.folds]
        results.add(REFERENCE, **intervals(teachers))
    print("\n".join(table({name: results.rows[name]})), flush=True)


def main() -> None:
    """Run the families one after the other, or print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(NAMES), help="names of experiments/families.py")
    parser.add_argument("--folds", default="0,1")
    parser.add_argument("--trials", type=int, default=2, help="trials of the tuning; 0: the recipe as it is")
    parser.add_argument("--teachers", type=Path, help="folder of the two teachers; without it there is no distillation")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/families"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    given = parser.parse_args()
    results = Results(given.output / RESULTS)
    if given.table:
        print("\n".join(table(results.rows)))
        return
    if not given.data.is_dir():
        raise SystemExit(f"The recordings of birds10 are needed in {given.data}; give their folder with --data.")
    given.folds = [int(fold) for fold in given.folds.split(",")]
    for name in given.only.split(","):
        try:
            run_family(name, given, results)
        except UserError as error:
            print(f"{name}: {error}", flush=True)
        free_memory()


if __name__ == "__main__":
    main()
