"""`birdnet-fs pseudo-label`: label unlabeled recordings with a model, and train on them in rounds."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdnet_fs.cli.checks import check_experiment, check_inputs, check_windows
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say

if TYPE_CHECKING:
    from birdnet_fs import schema


@locked("output")
def pseudo_label(
    model: Annotated[Path, typer.Argument(help="Run folder, ensemble or exported .tflite file.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT... [KEY=VALUE]...",
            help="Recordings, or folders searched at any depth; settings of the training, as pseudo_labels.power=2.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Output folder.")],
    rounds: Annotated[
        int,
        typer.Option(
            min=0, help="Rounds of labeling and training, each with the run of the previous round; 0 = label only."
        ),
    ] = 0,
    overlap: Annotated[float, typer.Option(help="Overlap of consecutive windows in seconds.")] = 0.0,
    batch_size: Annotated[int, typer.Option("--batch_size", help="Windows per batch.")] = 32,
    threads: Annotated[int, typer.Option(help="CPU threads of the model; 0 = default of the runtime.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace tables and runs of other settings, recordings or models.")
    ] = False,
) -> None:
    """Label the windows of recordings with the probabilities of a model, for training.

    The windows are written to OUTPUT/pseudo.csv; pseudo_labels.table=OUTPUT trains on them. With --rounds N, the
    experiment of the run is also trained with them, changed by KEY=VALUE (as pseudo_labels.power=2 or
    augmentation.cutmix.p=0.5), in OUTPUT/round1/run; that run labels the recordings of round 2, and so on. Finished
    rounds are kept.
    """
    settings = [given for given in inputs if "=" in given and not Path(given).exists()]
    recordings = [Path(given) for given in inputs if given not in settings]
    check_output(output)
    check_inputs(recordings)
    if rounds and model.is_file():
        raise UserError(f"--rounds trains the experiment of a run, and {model} is not a run; give a run folder.")
    check_windows(model, overlap=overlap, batch_size=batch_size, threads=threads)
    if not rounds:
        if settings:
            raise UserError(
                f"{settings[0]} is a setting of the training; add --rounds 1 to train on the labeled windows."
            )
        table = _label(model, recordings, output, overlap, batch_size, threads, overwrite)
        print(f"{table}; train on it with pseudo_labels.table={output}")
        return
    base = _experiment(model, settings)
    check_experiment(base)
    from birdnet_fs.cli.train import headline
    from birdnet_fs.reports.held_out import report_on_held_out
    from birdnet_fs.runs.run import load_run
    from birdnet_fs.training.resume.existing import check_unfinished, holds_run
    from birdnet_fs.training.trainer import train

    for number in range(1, rounds + 1):
        folder = output / f"round{number}"
        table = _label(model, recordings, folder, overlap, batch_size, threads, overwrite)
        chosen = dataclasses.replace(base, pseudo_labels=dataclasses.replace(base.pseudo_labels, table=str(table)))
        model = folder / "run"
        there = not overwrite and holds_run(model, chosen)
        if not overwrite:
            check_unfinished(model, chosen)
        run = load_run(model) if there else train(chosen, model)
        metrics = report_on_held_out(run)
        print(f"round {number}: {headline(metrics) if metrics else 'no clips were held out'}")
        say(f"run folder: {model}")


def _label(
    model: Path,
    recordings: Sequence[Path],
    output: Path,
    overlap_s: float,
    batch_size: int,
    threads: int,
    overwrite: bool,
) -> Path:
    from birdnet_fs.analysis.pseudo_labels import label_recordings
    from birdnet_fs.inference.open import open_engine
    from birdnet_fs.runs.ensemble import is_ensemble, load_ensemble

    engine = open_engine(model, threads=threads)
    runs = [member.path for member in load_ensemble(model).members] if is_ensemble(model) else [model]
    runs = runs if model.is_dir() else []
    return label_recordings(
        engine, recordings, output, runs=runs, overlap_s=overlap_s, batch_size=batch_size, overwrite=overwrite
    )


def _experiment(model: Path, settings: Sequence[str]) -> "schema.Experiment":
    """Experiment trained in every round: that of the run, or of the first member of an ensemble."""
    from birdnet_fs import frontend
    from birdnet_fs.core.settings import override
    from birdnet_fs.runs.ensemble import is_ensemble, load_ensemble
    from birdnet_fs.runs.run import load_run

    run = load_ensemble(model).members[0] if is_ensemble(model) else load_run(model)
    return override(run.experiment, list(settings), {"frontend": frontend.preset})
