"""`birdnet-fs cv`: every fold of an experiment, one run folder each, and their mean."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from birdnet_fs.plumbing.files import write_json
from birdnet_fs.plumbing.progress import say


def cv(
    experiment: Annotated[str, typer.Argument(metavar="CONFIG:NAME", help="As config.py:birds10.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As data.root=recordings.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the folds; default runs/NAME-cv.")
    ] = None,
    fold: Annotated[int | None, typer.Option("--fold", help="Train this fold only, as one job of a cluster.")] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", help="Comma-separated seeds, as 0,1,2; default the experiment's.")
    ] = "",
) -> None:
    """Train and score every fold; folds that are already there with the same settings are kept."""
    from birdnet_fs.cli.experiment import load

    chosen = load(experiment, settings or [])
    folder = output or Path("runs") / f"{chosen.name}-cv"
    wanted = [int(s) for s in seeds.split(",")] if seeds else [chosen.seed]
    rows = []
    for seed in wanted:
        seeded = dataclasses.replace(chosen, seed=seed)
        place = folder / f"seed{seed}" if seeds else folder
        for number in range(chosen.data.n_folds) if fold is None else [fold]:
            rows.append({"seed": seed, "fold": number, **_fold(seeded, number, place)})
            say(_line(rows[-1]))
    if fold is None:
        summary = _summary(rows, folder, wanted, per_seed=bool(seeds))
        write_json(folder / "cv.json", summary)
        for row in rows:
            print(_line(row))
        for name in ("accuracy", "macro_auroc", "pooled_macro_auroc"):
            print(f"{name:20s} {summary[name]['mean']:.4f} ± {summary[name]['std']:.4f}")


def _fold(experiment: Any, number: int, folder: Path) -> dict[str, Any]:
    from birdnet_fs.reports.held_out import report_on_held_out
    from birdnet_fs.training.trainer import PRETRAIN, finished, pretrain, train

    one = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, fold=number))
    place = folder / f"fold{number}"
    if not (finished(place, one) and (place / "metrics.json").is_file()):
        start = pretrain(one, folder / PRETRAIN) if one.pretrain else None
        report_on_held_out(train(one, place, pretrained=start))
    metrics = json.loads((place / "metrics.json").read_text(encoding="utf-8"))
    return {name: metrics[name] for name in ("accuracy", "macro_auroc", "n_scored_classes")}


def _summary(rows: list[dict[str, Any]], folder: Path, seeds: list[int], *, per_seed: bool) -> dict[str, Any]:
    """Mean and standard deviation over seeds of the mean over folds, and of the AUROC of all folds pooled."""
    import numpy as np

    from birdnet_fs.reports.scores import read_scores
    from birdnet_fs.training.metrics import macro_auroc

    by_seed: dict[str, list[float]] = {"accuracy": [], "macro_auroc": [], "pooled_macro_auroc": []}
    for seed in seeds:
        own = [row for row in rows if row["seed"] == seed]
        for name in ("accuracy", "macro_auroc"):
            by_seed[name].append(float(np.mean([row[name] for row in own])))
        place = folder / f"seed{seed}" if per_seed else folder
        tables = [read_scores(place / f"fold{row['fold']}" / "scores.csv") for row in own]
        pooled = macro_auroc(np.concatenate([t.targets for t in tables]), np.concatenate([t.scores for t in tables]))
        by_seed["pooled_macro_auroc"].append(pooled.value)
    means = {name: {"mean": float(np.mean(v)), "std": float(np.std(v)), "by_seed": v} for name, v in by_seed.items()}
    return {**means, "folds": rows}


def _line(row: dict[str, Any]) -> str:
    return (
        f"seed {row['seed']} fold {row['fold']}: accuracy {row['accuracy']:.4f}, macro AUROC {row['macro_auroc']:.4f} "
        f"over {row['n_scored_classes']} classes"
    )
