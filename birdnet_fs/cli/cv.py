"""`birdnet-fs cv`: every fold of an experiment, one run folder each, and their mean."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.files import write_json
from birdnet_fs.plumbing.progress import say


def cv(
    experiment: Annotated[str, typer.Argument(metavar="CONFIG:NAME", help="As config.py:birds10.")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As data.root=folder.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder; default runs/NAME-cv.")] = None,
    fold: Annotated[int | None, typer.Option("--fold", help="This fold only, as one job of a cluster.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="As 0,1,2; default the experiment's own.")] = "",
    cfg: Annotated[bool, typer.Option("--cfg", help="Print the resolved settings and stop.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace folds of other settings.")] = False,
) -> None:
    """Train and score every fold; folds that are already there with the same settings are kept.

    Writes cv.json: each fold, and mean and standard deviation, over the seeds when there are several and else over
    the folds. The pooled AUROC ranks the held-out clips of all folds together.
    """
    from birdnet_fs import schema
    from birdnet_fs.cli.experiment import load
    from birdnet_fs.plumbing.settings import show

    chosen = load(experiment, settings or [])
    if cfg:
        print(show(schema.debugged(chosen)))
        return
    wanted = _seeds(seeds) or [chosen.seed]
    from birdnet_fs.training.partition import folds_of

    folder = output or Path("runs") / f"{chosen.name}-cv"
    folds = folds_of(chosen)
    if fold is not None and fold not in folds:
        raise UserError(f"--fold must be one of {folds}. Received: {fold}")
    rows = []
    for seed in wanted:
        place = folder / f"seed{seed}" if seeds else folder
        for number in folds if fold is None else [fold]:
            rows.append(_fold(dataclasses.replace(chosen, seed=seed), number, place, overwrite))
            say(_line(rows[-1]))
    if fold is None:
        summary = _summary(rows)
        write_json(folder / "cv.json", summary)
        for row in rows:
            print(_line(row))
        for name in ("accuracy", "macro_auroc", "pooled_macro_auroc"):
            numbers = summary[name]
            print(f"{name:20s} {numbers['mean']:.4f} ± {numbers['std']:.4f} (over {summary['std_over']})")


def _seeds(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(seed) for seed in text.split(",") if seed.strip()))
    except ValueError:
        raise UserError(f"--seeds must be whole numbers with commas between, as 0,1,2. Received: {text!r}") from None


def _fold(experiment: Any, number: int, folder: Path, overwrite: bool) -> dict[str, Any]:
    from birdnet_fs.cli.train import is_there
    from birdnet_fs.reports.held_out import report_on_held_out
    from birdnet_fs.training.run_folder import load_run
    from birdnet_fs.training.trainer import PRETRAIN, finished, pretrain, train

    one = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, fold=number))
    place = folder / f"fold{number}"
    trained = finished(place, one) or (not overwrite and is_there(place, one))
    if not (trained and (place / "metrics.json").is_file()):
        start = pretrain(one, folder / PRETRAIN) if one.pretrain and not trained else None
        run = load_run(place) if trained else train(one, place, pretrained=start)
        if not report_on_held_out(run):
            raise UserError(f"Fold {number} holds no clip, so it cannot be scored; use fewer folds (data.n_folds).")
    metrics = json.loads((place / "metrics.json").read_text(encoding="utf-8"))
    names = ("accuracy", "macro_auroc", "n_scored_classes")
    return {"seed": experiment.seed, "fold": number, **{n: metrics[n] for n in names}, "run": str(place)}


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation: over seeds of the mean over folds, or over the folds of one seed."""
    import numpy as np

    from birdnet_fs.reports.scores import read_scores
    from birdnet_fs.training.metrics import macro_auroc

    seeds = sorted({row["seed"] for row in rows})
    by_seed: dict[str, list[float]] = {"accuracy": [], "macro_auroc": [], "pooled_macro_auroc": []}
    for seed in seeds:
        own = [row for row in rows if row["seed"] == seed]
        for name in ("accuracy", "macro_auroc"):
            defined = [row[name] for row in own if row[name] is not None]
            by_seed[name].append(float(np.mean(defined)) if defined else 0.0)
        tables = [read_scores(Path(row["run"]) / "scores.csv") for row in own]
        pooled = macro_auroc(np.concatenate([t.targets for t in tables]), np.concatenate([t.scores for t in tables]))
        by_seed["pooled_macro_auroc"].append(pooled.value)
    summary: dict[str, Any] = {"std_over": f"{len(seeds)} seeds" if len(seeds) > 1 else f"{len(rows)} folds"}
    for name, values in by_seed.items():
        spread = values if len(seeds) > 1 else [row[name] for row in rows if row.get(name) is not None]
        std = float(np.std(spread, ddof=1)) if len(spread) > 1 else 0.0
        summary[name] = {
            "mean": float(np.mean(values)),
            "std": std,
            "by_seed": dict(zip(map(str, seeds), values, strict=True)),
        }
    return {**summary, "folds": list(rows)}


def _line(row: dict[str, Any]) -> str:
    auroc = "undefined" if row["macro_auroc"] is None else f"{row['macro_auroc']:.4f}"
    return (
        f"seed {row['seed']} fold {row['fold']}: accuracy {row['accuracy']:.4f}, macro AUROC {auroc} "
        f"over {row['n_scored_classes']} classes"
    )
