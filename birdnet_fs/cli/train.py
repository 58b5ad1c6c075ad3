"""`birdnet-fs train`: one experiment, one run folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.progress import say


def headline(metrics: Mapping[str, Any]) -> str:
    """The two first numbers of metrics.json; what is undefined is said to be."""
    if "test_acc" in metrics:
        low, high = metrics["test_acc_ci"]
        interval = "" if low is None else f" ({low:.4f} to {high:.4f})"
        return (
            f"{metrics['n_way']}-way {metrics['n_shot']}-shot accuracy {metrics['test_acc']:.4f}{interval}, "
            f"{metrics['recordings']} recordings, macro F1 {metrics['test_f1']:.4f}"
        )
    shown = [(name, metrics[name]) for name in ("macro_auroc", "accuracy")]
    return "  ".join(f"{name} {'undefined' if value is None else format(value, '.4f')}" for name, value in shown)


HARDLY = 0.6  # macro AUROC; guessing gives .5, within .1 of it for the twenty clips of a small fold


def advice(metrics: Mapping[str, Any]) -> str:
    """What to try where the run tells the classes hardly better than guessing; nothing where it does."""
    auroc = metrics.get("macro_auroc")
    if auroc is None or auroc >= HARDLY:
        return ""
    return (
        f"A macro AUROC of {auroc:.2f} is hardly better than guessing (.50): look at the loss in history.csv. Where it "
        "never fell, take a third of training.learning_rate, more training.epochs or less augmentation; else more "
        "recordings, a smaller network (model.name=cnn/small) or a start from other species (pretrain)."
    )


def is_there(folder: Path, experiment: Any) -> bool:
    """Whether `folder` holds this run already.

    Raises:
        UserError: It holds another one.
    """
    from birdnet_fs.runs.resolve import differing_settings, is_finished
    from birdnet_fs.runs.run import CONFIG

    if is_finished(folder, experiment):
        say(f"{folder} holds this run already; it is kept (--overwrite trains it again).")
        return True
    if (folder / CONFIG).is_file():
        way = "give another folder with -o, or --overwrite to replace it."
        try:
            found = differing_settings(folder, experiment)
        except UserError as error:
            raise UserError(f"{folder} holds a run that cannot be read ({error}); {way}") from None
        others = f"; {len(found) - 1} more" if found[1:] else ""
        raise UserError(f"{folder} holds a run with other settings ({''.join(found[:1])}{others}); {way}")
    return False


def refuse_unfinished(folder: Path) -> None:
    """Leave the checkpoints of a training that did not finish; they may be all that is left of days.

    Raises:
        UserError: There are some.
    """
    from birdnet_fs.runs.checkpoints import LAST
    from birdnet_fs.runs.run import CHECKPOINTS, CONFIG

    last = folder / CHECKPOINTS / LAST
    if (last / CONFIG).is_file() and not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder / CHECKPOINTS} holds what a training left that did not finish; give another folder with -o "
            f"(model.weights={last} starts from there), or --overwrite to replace it."
        )


def train(
    experiment: Annotated[str, typer.Argument(metavar="CONFIG:NAME", help="As config.py:birds10.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As training.epochs=5.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Run folder; default runs/NAME.")] = None,
    cfg: Annotated[bool, typer.Option("--cfg", help="Print the resolved settings and stop.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is in the folder.")] = False,
) -> None:
    """Train one run, score what it held out (classes, when it learns in episodes), and write the report.

    A run with the same settings that is there already is kept; one with other settings is not replaced without
    --overwrite. Experiments with a quick version take quick=true, all take debug=true.
    """
    from birdnet_fs import schema
    from birdnet_fs.cli.experiment import load
    from birdnet_fs.core.settings import show

    chosen = load(experiment, settings or [])
    if cfg:
        print(show(schema.debugged(chosen)))
        return
    folder = output or Path("runs") / chosen.name
    check_output(folder)
    train_and_report(chosen, folder, overwrite)
    say(f"next: birdnet-fs analyze {folder} RECORDINGS -o TABLES, or birdnet-fs export {folder}")


def train_and_report(experiment: Any, folder: Path, overwrite: bool) -> None:
    """Train into a folder, or take the run of that experiment which is there, and report on what it held out."""
    from birdnet_fs.reports.held_out import report_on_held_out
    from birdnet_fs.runs.run import load_run
    from birdnet_fs.training.trainer import train as train_run

    there = not overwrite and is_there(folder, experiment)
    if not overwrite:
        refuse_unfinished(folder)
    run = load_run(folder) if there else train_run(experiment, folder)
    metrics = report_on_held_out(run)
    if metrics:
        print(headline(metrics))
        if hint := advice(metrics):
            say(hint)
    say(f"run folder: {folder}" + (f"; open {folder / 'report.html'}" if metrics else ""))
