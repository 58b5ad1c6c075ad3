"""`birdnet-fs train`: train one experiment into one run folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from birdnet_fs.cli.completion import ConfiguredExperiment, setting_words
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.lock import folder_lock, refuse_second_writer
from birdnet_fs.core.progress import say

CFG_HELP = "Print the resolved settings, refuse what training would refuse before it reads the recordings, and exit."


def headline(metrics: Mapping[str, Any]) -> str:
    """Format the headline metrics of metrics.json in one line.

    Args:
        metrics: Content of metrics.json.

    Returns:
        Macro AUROC and accuracy ("undefined" where they are null); for runs trained in episodes the test accuracy.
    """
    if "test_acc" in metrics:
        low, high = metrics["test_acc_ci"]
        interval = "" if low is None else f" ({low:.4f} to {high:.4f})"
        return (
            f"{metrics['n_way']}-way {metrics['n_shot']}-shot accuracy {metrics['test_acc']:.4f}{interval}, "
            f"{metrics['recordings']} recordings, macro F1 {metrics['test_f1']:.4f}"
        )
    shown = [(name, metrics[name]) for name in ("macro_auroc", "accuracy")]
    return "  ".join(f"{name} {'undefined' if value is None else format(value, '.4f')}" for name, value in shown)


SINGLE_LABEL = "highest score is a true class"  # what accuracy is the share of, in metrics.json
MAX_CLASS_LINES = 30  # more fill a terminal; the least accurate ones are printed then


def class_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Format the accuracy of each class, the share of its clips that are predicted as it, as ANIMAL-SPOT's fork does.

    Args:
        metrics: Content of metrics.json.

    Returns:
        Lines such as "K1: 98.1%" in the order of the classes; of more than MAX_CLASS_LINES classes the least accurate
        ones. [] for clips with several labels, whose recall is in the report.
    """
    if not metrics.get("accuracy_is", SINGLE_LABEL).endswith(SINGLE_LABEL):
        return []
    rows = metrics["per_class"]
    defined = [row for row in rows if row["recall"] is not None]
    shown = sorted(defined, key=lambda row: row["recall"])[:MAX_CLASS_LINES] if len(rows) > MAX_CLASS_LINES else defined
    lines = [f"{row['name']}: {row['recall']:.1%}" for row in shown]
    if left := len(defined) - len(shown):
        lines.append(f"{left} more classes, all at least as accurate, are in metrics.json and report.html")
    if missing := [row["name"] for row in rows if row["recall"] is None]:
        more = f" and {len(missing) - MAX_CLASS_LINES} more" if len(missing) > MAX_CLASS_LINES else ""
        lines.append(f"no held-out clip: {', '.join(missing[:MAX_CLASS_LINES])}{more}")
    return lines


NEAR_CHANCE = 0.6  # macro AUROC; random scores give 0.5, and up to 0.6 on the twenty clips of a small fold


def advice(metrics: Mapping[str, Any]) -> str:
    """Suggest changes for a run whose macro AUROC is near chance level.

    Args:
        metrics: Content of metrics.json.

    Returns:
        The suggestion; "" for other runs.
    """
    auroc = metrics.get("macro_auroc")
    if auroc is None or auroc >= NEAR_CHANCE:
        return ""
    return (
        f"A macro AUROC of {auroc:.2f} is near chance level (0.50). If the loss in history.csv did not decrease, try a "
        "third of training.learning_rate, more training.epochs or less augmentation; otherwise more recordings, a "
        "smaller network (model.name=cnn/small) or pretraining on other species (pretrain)."
    )


def check_copy_encoder(experiment: Any) -> None:
    """Refuse --copy-encoder for an experiment without an encoder.

    Args:
        experiment: The experiment.

    Raises:
        UserError: The experiment has no `model.encoder`.
    """
    if not experiment.model.encoder:
        raise UserError("--copy-encoder copies the file of model.encoder, which this experiment does not set.")


def train(
    experiment: ConfiguredExperiment,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings, as training.epochs=5.", autocompletion=setting_words),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Run folder; default runs/NAME.")] = None,
    cfg: Annotated[bool, typer.Option("--cfg", help=CFG_HELP)] = False,
    copy_encoder: Annotated[
        bool,
        typer.Option("--copy-encoder", help="Copy the file of model.encoder into the run, if its license lets you."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run in the folder.")] = False,
) -> None:
    """Train one run, evaluate it on the held-out clips (or classes, in episodes), and write a report.

    An existing run with the same settings is kept; one with other settings is replaced only with --overwrite, when the
    new one is whole. SIGTERM, SIGUSR1 and Ctrl-C stop at the end of a batch; the same command goes on from there to the
    same run. The weights at that time are in OUTPUT/interrupted.
    Experiments with a quick version accept quick=true; all accept debug=true. Several GPUs train one run with
    `torchrun --nproc-per-node N --no-python birdnet-fs train ...`.
    """
    from birdnet_fs import schema
    from birdnet_fs.cli.checks import check_experiment
    from birdnet_fs.cli.experiment import load_experiment
    from birdnet_fs.core.settings import show

    if output is not None and not cfg:
        refuse_second_writer(output)
    chosen = load_experiment(experiment, settings or [])
    if cfg:
        print(show(schema.debugged(chosen)))
    folder = output or Path("runs") / chosen.name
    if output is not None or not cfg:
        check_output(folder)
    check_experiment(chosen)
    if copy_encoder:
        check_copy_encoder(chosen)
    if cfg:
        from birdnet_fs.training.checks.experiment import check_training

        say(check_training(chosen))
        return
    with folder_lock(folder):
        train_and_report(chosen, folder, overwrite, copy_encoder=copy_encoder)
    say(f"next: birdnet-fs analyze {folder} RECORDINGS -o TABLES, or birdnet-fs export {folder}")


def train_and_report(experiment: Any, folder: Path, overwrite: bool, *, copy_encoder: bool = False) -> None:
    """Train an experiment, or load its finished run, and evaluate it on the held-out clips.

    Args:
        experiment: The experiment.
        folder: Run folder.
        overwrite: Replace an existing run in the folder.
        copy_encoder: Copy the file of `model.encoder` into the run. Default: False.
    """
    from birdnet_fs.core.distributed import group
    from birdnet_fs.reports.held_out import report_on_held_out
    from birdnet_fs.reports.notebook.trainer import Trainer

    run = Trainer(experiment, folder, overwrite=overwrite, copy_encoder=copy_encoder).train().run
    if not group.is_main():
        return
    metrics = report_on_held_out(run)
    if metrics:
        print("\n".join([*class_lines(metrics), headline(metrics)]))
        for remark in metrics["remarks"]:
            say(remark)
        if hint := advice(metrics):
            say(hint)
    say(f"run folder: {folder}" + (f"; open {folder / 'report.html'}" if metrics else ""))
