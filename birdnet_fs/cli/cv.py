"""`birdnet-fs cv`: cross-validation, one run folder per fold, and the out-of-fold results."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from birdnet_fs.cli.completion import ConfiguredExperiment, setting_words
from birdnet_fs.cli.train import CFG_HELP
from birdnet_fs.core.distributed import group
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output, write_json
from birdnet_fs.core.lock import folder_lock, refuse_second_writer
from birdnet_fs.core.progress import say


def cv(
    experiment: ConfiguredExperiment,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings, as data.root=FOLDER.", autocompletion=setting_words),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Output folder; default runs/NAME-cv.")] = None,
    fold: Annotated[
        int | None, typer.Option("--fold", help="Train this fold only, for one job per fold on a cluster.")
    ] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", help="Seeds, separated by commas, as 0,1,2; default: the seed of the experiment.")
    ] = "",
    cfg: Annotated[bool, typer.Option("--cfg", help=CFG_HELP)] = False,
    ensemble: Annotated[
        str,
        typer.Option("--ensemble", help="mean, power, min or rank: combine all folds in OUTPUT/ensemble, too."),
    ] = "",
    copy_encoder: Annotated[
        bool,
        typer.Option("--copy-encoder", help="Copy the file of model.encoder into each fold, if its license lets you."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace folds trained with other settings.")] = False,
) -> None:
    """Train and evaluate every fold; finished folds with the same settings are kept.

    Without --fold, the folds are then combined: oof.csv (every clip scored by the network that was not trained on it,
    averaged over the seeds), its report.html and metrics.json, and cv.json with the metrics of every fold, their mean
    and standard deviation (over the seeds when there are several, else over the folds) and the out-of-fold metrics.
    """
    from birdnet_fs import schema
    from birdnet_fs.cli.experiment import load_experiment
    from birdnet_fs.core.settings import show

    if output is not None and not cfg:
        refuse_second_writer(output if fold is None or seeds else output / f"fold{fold}")
    chosen = load_experiment(experiment, settings or [])
    if cfg:
        print(show(schema.debugged(chosen)))
    wanted = _seeds(seeds) or [chosen.seed]
    from birdnet_fs.cli.checks import check_experiment
    from birdnet_fs.cli.train import check_copy_encoder
    from birdnet_fs.data.partition import fold_numbers
    from birdnet_fs.runs.ensemble import COMBINE
    from birdnet_fs.runs.folder_kind import refuse_other_results

    folder = output or Path("runs") / f"{chosen.name}-cv"
    if output is not None or not cfg:
        check_output(folder)
        refuse_other_results(folder, "a cross-validation")
    if fold is not None and ensemble:
        raise UserError("--ensemble needs all folds; use it in the command without --fold, which combines them.")
    if ensemble and ensemble not in COMBINE:
        raise UserError(f"--ensemble must be one of {', '.join(COMBINE)}. Received: {ensemble!r}")
    check_experiment(chosen)
    if copy_encoder:
        check_copy_encoder(chosen)
    folds = fold_numbers(chosen)
    if fold is not None and fold not in folds:
        raise UserError(f"--fold must be one of {folds}. Received: {fold}")
    if cfg:
        from birdnet_fs.training.checks.experiment import check_training

        one = dataclasses.replace(chosen.data, fold=folds[0] if fold is None else fold)
        say(check_training(dataclasses.replace(chosen, data=one)))
        return
    rows = []
    for seed in wanted:
        place = folder / f"seed{seed}" if seeds else folder
        for number in folds if fold is None else [fold]:
            with folder_lock(place / f"fold{number}"):  # jobs of other folds write at the same time
                rows.append(_fold(dataclasses.replace(chosen, seed=seed), number, place, overwrite, copy_encoder))
            if group.is_main():
                say(_line(rows[-1]))
    if not group.is_main():  # the main process combines the folds
        return
    if fold is not None:
        return
    with folder_lock(folder):
        found = _collect(schema.debugged(chosen), rows, folder)
    print("\n".join([*map(_line, rows), *_numbers(found)]))
    say(f"out of fold: {folder / 'oof.csv'}; open {folder / 'report.html'}")
    if ensemble:
        from birdnet_fs.cli.ensemble import FOLDER, make_ensemble

        made = make_ensemble([Path(row["run"]) for row in rows], folder / FOLDER, combine=ensemble, overwrite=True)
        say(f"{made.path}: {made.about}")


def _seeds(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(seed) for seed in text.split(","))) if text else []
    except ValueError:
        raise UserError(f"--seeds must be whole numbers separated by commas, as 0,1,2. Received: {text!r}") from None


def _fold(experiment: Any, number: int, folder: Path, overwrite: bool, copy_encoder: bool) -> dict[str, Any]:
    from birdnet_fs.core.distributed.exchange import from_main
    from birdnet_fs.reports.held_out import evaluate_again, report_on_held_out
    from birdnet_fs.reports.out_of_fold import HEADLINE
    from birdnet_fs.reports.stored_scores import has_scores, stored_metrics
    from birdnet_fs.runs.folder_kind import refuse_other_results
    from birdnet_fs.runs.resolve import is_finished
    from birdnet_fs.runs.run import load_run
    from birdnet_fs.training.on_encoders.training import copy_encoders
    from birdnet_fs.training.resume.existing import holds_run
    from birdnet_fs.training.trainer import PRETRAIN, pretrain, train

    one = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, fold=number))
    place = folder / f"fold{number}"
    names = (*HEADLINE, "n_scored_classes")

    def is_trained() -> bool:
        refuse_other_results(place, "a run")
        return is_finished(place, one) or (not overwrite and holds_run(place, one))

    trained = from_main(is_trained)
    if not group.is_main():
        if not trained:
            train(one, place, pretrained=pretrain(one, folder / PRETRAIN) if one.pretrain else None)
        return {}
    metrics = stored_metrics(place) if trained else {}
    if not set(names) <= set(metrics):
        say(f"seed {one.seed} fold {number}, {'scored' if trained else 'trained'} in {place}:")
        start = pretrain(one, folder / PRETRAIN) if one.pretrain and not trained else None
        if has_scores(place) and trained:  # a killed command left no report
            metrics = evaluate_again(place)
        else:
            run = load_run(place) if trained else train(one, place, pretrained=start, copy_encoder=copy_encoder)
            metrics = report_on_held_out(run)
        if not metrics:
            raise UserError(f"Fold {number} has no clips, so it cannot be evaluated; use fewer folds (data.n_folds).")
    if trained and copy_encoder:
        copy_encoders(load_run(place))
    return {"seed": experiment.seed, "fold": number, **{n: metrics[n] for n in names}, "run": str(place)}


def _collect(experiment: Any, rows: Sequence[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Write oof.csv, its metrics.json and report.html, and cv.json; returns the content of cv.json."""
    from birdnet_fs.data.score_table import read_scores, write_scores
    from birdnet_fs.reports.evaluate import SCORES, write_evaluation
    from birdnet_fs.reports.out_of_fold import CV, OOF, never_scored, out_of_fold, summary, undefined_in_folds

    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    by_seed = {seed: [read_scores(Path(row["run"]) / SCORES) for row in rows if row["seed"] == seed] for seed in seeds}
    table = out_of_fold(by_seed)
    write_scores(folder / OOF, table)
    whose = "the network" if len(seeds) == 1 else f"the networks of {len(seeds)} seeds (mean of their probabilities)"
    left = never_scored([Path(row["run"]) for row in rows], table)
    undefined = undefined_in_folds(rows)
    said = write_evaluation(
        folder,
        table,
        multi_label=experiment.data.multi_label,
        title=f"{experiment.name}, out of fold",
        experiment=experiment,
        notes=[
            f"Every clip was scored by {whose} of the fold that held it out ({len(by_seed[seeds[0]])} folds); {CV} "
            "holds the differences between folds and seeds.",
            *([left] if left else []),
            *undefined,
        ],
    )
    found = summary(rows, by_seed)
    found["oof"] = {name: value for name, value in said.items() if name not in ("per_class", "confusion", "seed")}
    found["folds"] = list(rows)
    write_json(folder / CV, found)
    for message in (*([left] if left else []), *undefined, *said["remarks"]):
        say(message)
    return found


def _numbers(found: dict[str, Any]) -> list[str]:
    """Format cv.json as a table of a few lines."""
    lines = [f"{'':18s} {'mean':>6s}   {'± over ' + found['std_over']:16s} out of fold"]
    names = {"accuracy": "accuracy", "macro_auroc": "macro AUROC", "cmap": "cmAP", "f1": "macro F1"}
    for name, shown in names.items():
        mean, std, whole = found[name]["mean"], found[name]["std"], found["oof"][name]
        lines.append(f"{shown:18s} {_number(mean)} ± {_number(std):16s} {_number(whole)}")
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _line(row: dict[str, Any]) -> str:
    auroc = "undefined" if row["macro_auroc"] is None else f"{row['macro_auroc']:.4f}"
    return (
        f"seed {row['seed']} fold {row['fold']}: accuracy {row['accuracy']:.4f}, macro AUROC {auroc} "
        f"over {row['n_scored_classes']} classes"
    )
