"""`birdnet-fs train`: one experiment, one run folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from birdnet_fs.plumbing.progress import say


def headline(metrics: Mapping[str, Any]) -> str:
    """The two first numbers of metrics.json; what is undefined is said to be."""
    shown = [(name, metrics[name]) for name in ("macro_auroc", "accuracy")]
    return "  ".join(f"{name} {'undefined' if value is None else format(value, '.4f')}" for name, value in shown)


def train(
    experiment: Annotated[str, typer.Argument(metavar="CONFIG:NAME", help="As config.py:birds10.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As training.epochs=5.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Run folder; default runs/NAME.")] = None,
    cfg: Annotated[bool, typer.Option("--cfg", help="Print the resolved settings and stop.")] = False,
) -> None:
    """Train one run, score what it held out, and write the report."""
    from birdnet_fs import schema
    from birdnet_fs.cli.experiment import load

    chosen = load(experiment, settings or [])
    if cfg:
        print(schema.show(schema.debugged(chosen)))
        return
    from birdnet_fs.reports.held_out import report_on_held_out
    from birdnet_fs.training.trainer import train as train_run

    folder = output or Path("runs") / chosen.name
    run = train_run(chosen, folder)
    metrics = report_on_held_out(run)
    if metrics:
        print(headline(metrics))
    say(f"run folder: {folder}" + (f"; open {folder / 'report.html'}" if metrics else ""))
