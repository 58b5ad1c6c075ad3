"""`birdnet-fs evaluate`: metrics and a report of a run, on held-out or on new labeled recordings."""

from pathlib import Path
from typing import Annotated, Any

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say

COLUMNS = ("auroc", "average_precision", "precision", "recall", "f1", "best_f1", "threshold")


@locked("output", "run")
def evaluate(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder, checkpoint or ensemble; with INPUT also a .tflite file.")
    ],
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[INPUT]", help="Labeled recordings that the run was not trained on: folder or table."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings for reading INPUT, as data.where=split=test."),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Output folder; required with INPUT.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of the model; 0 = default of the runtime.")] = 0,
) -> None:
    """Evaluate a run or a checkpoint on its held-out clips, or on new labeled recordings.

    Without INPUT, metrics.json and report.html are written to RUN (or OUTPUT): from the scores in RUN where it has
    them; otherwise the held-out clips are scored first, in episodes for a run trained in episodes. With INPUT, the
    recordings are scored and all results are written to OUTPUT.
    """
    from birdnet_fs.runs.folder_kind import refuse_other_results

    if output is not None:
        check_output(output)
        if source is not None or output.resolve() != run.resolve():
            refuse_other_results(output, "an evaluation")
            if (output / "metrics.json").is_file():
                say(f"{output} holds an earlier evaluation, which is replaced.")
    if source is None and run.suffix in (".tflite", ".onnx"):
        raise UserError(f"{run} has no held-out clips; give labeled recordings as INPUT, and -o FOLDER.")
    _check(run, source, settings or [], output, threads)
    if source is None:
        from birdnet_fs.reports.held_out import evaluate_again

        metrics, folder = evaluate_again(run, output), output or run
    elif output is None:
        raise UserError("The output folder is missing; add -o FOLDER to evaluate on new recordings.")
    else:
        metrics, folder = _on_new(run, source, settings or [], output, threads), output
    print(_table(metrics))
    for remark in metrics["remarks"]:
        say(remark)
    say(f"Report: {folder / 'report.html'}")


def _check(run: Path, source: Path | None, settings: list[str], output: Path | None, threads: int) -> None:
    """Check the arguments before the model is loaded."""
    from birdnet_fs.cli.checks import check_data_settings, check_numbers
    from birdnet_fs.inference.describe import describe_model
    from birdnet_fs.reports.labeled import guess_data
    from birdnet_fs.schema import Data

    check_numbers(threads=(threads, 0, 1024))
    check_data_settings(settings)
    if source is None and settings:
        raise UserError(
            f"Settings are for reading INPUT, labeled recordings; give INPUT too. Received: {settings[0]!r}"
        )
    if source is not None and output is None:
        raise UserError("The output folder is missing; add -o FOLDER to evaluate on new recordings.")
    if source is not None:
        guess_data(source, Data())
    describe_model(run)


def _on_new(run: Path, source: Path, settings: list[str], output: Path, threads: int) -> dict[str, Any]:
    import dataclasses

    from birdnet_fs import schema
    from birdnet_fs.core.settings import override
    from birdnet_fs.core.text import escaped
    from birdnet_fs.data.manifest import Clip
    from birdnet_fs.data.score_table import write_scores
    from birdnet_fs.inference.open import open_engine
    from birdnet_fs.reports.evaluate import write_evaluation
    from birdnet_fs.reports.labeled import guess_data, score_labeled
    from birdnet_fs.runs.ensemble import is_ensemble, load_ensemble
    from birdnet_fs.runs.provenance import provenance
    from birdnet_fs.runs.run import load_run

    wrong = next((s for s in settings if not s.startswith("data.")), None)
    if wrong is not None:
        raise UserError(f"Settings of this command must be data.KEY=VALUE. Received: {wrong!r}")
    engine = open_engine(run, threads=threads)
    ensemble = load_ensemble(run) if is_ensemble(run) else None
    one = ensemble.members[0] if ensemble else load_run(run) if run.is_dir() else None
    experiment = one.experiment if one else schema.Experiment(name=run.stem)
    labels = dataclasses.replace(experiment.data, multi_label=engine.multi_label)
    asked = override(schema.Experiment(data=guess_data(source, labels)), settings)
    table, ledger, events = score_labeled(engine, asked.data)
    ledger.write(output / "ledger.csv")
    write_scores(output / "scores.csv", table)
    notes = [*([ensemble.about] if ensemble else []), f"Scored on {escaped(source)}. {ledger.summary()}"]
    known = provenance(run).trained_on([Clip(Path(path)) for path in dict.fromkeys(row.path for row in table.rows)])
    if known:
        notes.append(
            f"The run was trained on {len(known)} of these recordings (the first: {escaped(known[0].path)}): the "
            "metrics do not measure how well it generalizes to new recordings."
        )
        say(notes[-1])
    return write_evaluation(
        output,
        table,
        multi_label=engine.multi_label or any(len(row.labels) != 1 for row in table.rows),
        title=f"{ensemble.title if ensemble else experiment.name} on {source.name or source.resolve().name}",
        experiment=None if ensemble else experiment,
        notes=notes,
        events=events,
    )


def _table(metrics: dict[str, Any]) -> str:
    """Format the headline metrics and one line per class, worst first."""
    lines = _of_episodes(metrics) if "test_acc" in metrics else _of_segments(metrics)
    return "\n".join(lines)


def _of_episodes(metrics: dict[str, Any]) -> list[str]:
    from birdnet_fs.cli.train import headline

    lines = [
        headline(metrics),
        f"macro precision {_number(metrics['test_precision'], 4)}, recall {_number(metrics['test_recall'], 4)}; "
        f"cross-entropy {_number(metrics['test_loss'], 4)}; {metrics['n_test']} episodes of {metrics['n_clips']} clips",
        "",
        f"{'class':40} {'n':>6} {'acc':>7} {'prec':>7} {'F1':>7}",
    ]
    for row in sorted(metrics["per_class"], key=lambda row: (row["recall"] is None, row["recall"] or 0.0)):
        numbers = " ".join(f"{_number(row[key], 3):>7}" for key in ("recall", "precision", "f1"))
        lines.append(f"{row['name'][:40]:40} {row['n_queries']:6d} {numbers}")
    return lines


def _of_segments(metrics: dict[str, Any]) -> list[str]:
    value, (low, high) = metrics["macro_auroc"], metrics["macro_auroc_ci"]
    interval = f" (95 % interval {low:.4f} to {high:.4f})" if low is not None else ""
    lines = [
        f"macro AUROC {_number(value, 4)}{interval} over {metrics['n_scored_classes']} of "
        f"{len(metrics['per_class'])} classes",
        f"accuracy {_number(metrics['accuracy'], 4)} ({metrics['accuracy_is']}); cmAP {_number(metrics['cmap'], 4)}"
        + ("" if (no_call := metrics.get("no_call_average_precision")) is None else f"; no-call AP {no_call:.4f}"),
        "macro (weighted) " + ", ".join(f"{name} {_means(metrics, name)}" for name in ("precision", "recall", "f1")),
        f"{metrics['n_segments']} segments from {metrics['n_groups']} recordings or individuals",
        "",
        f"{'class':40} {'n':>6} {'AUROC':>7} {'AP':>7} {'prec':>7} {'recall':>7} {'F1':>7} {'best F1':>7} {'at':>7}",
    ]
    for row in sorted(metrics["per_class"], key=lambda row: (row["auroc"] is None, row["auroc"] or 0.0)):
        numbers = " ".join(f"{_number(row[key], 3):>7}" for key in COLUMNS)
        lines.append(f"{row['name'][:40]:40} {row['n_positives']:6d} {numbers}")
    if metrics.get("timed_events"):
        from birdnet_fs.reports.timed_events import timed_lines

        lines += ["", *timed_lines(metrics["timed_events"])]
    if metrics["skipped_classes"]:
        lines.append(f"not evaluated (no positive or no negative segment): {', '.join(metrics['skipped_classes'])}")
    return lines


def _means(metrics: dict[str, Any], name: str) -> str:
    return f"{_number(metrics[name], 4)} ({_number(metrics[f'weighted_{name}'], 4)})"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
