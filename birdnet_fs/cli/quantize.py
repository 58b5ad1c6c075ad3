"""`birdnet-fs quantize`: quantization-aware training of a float run, for accurate int8 artifacts."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.cli.train import CFG_HELP
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.lock import folder_lock, refuse_second_writer
from birdnet_fs.core.progress import say


def quantize(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A trained run of a convolutional family.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings, as training.epochs=10.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the new run.")] = None,
    cfg: Annotated[bool, typer.Option("--cfg", help=CFG_HELP)] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run in OUTPUT.")] = False,
) -> None:
    """Continue the training of a run with simulated int8 rounding, to match the outputs of the float network.

    By default 5 epochs on the training clips of the run. BatchNorm is folded into the convolutions, and all weights and
    activations are rounded to 8 bits in training. The new run can be used like any other: evaluate, analyze, export;
    `birdnet-fs export OUTPUT --precision int8` uses the quantization ranges of the training.
    """
    if output is not None and not cfg:
        refuse_second_writer(output)
    from birdnet_fs import frontend
    from birdnet_fs.cli.train import train_and_report
    from birdnet_fs.core.settings import assigned, override, show
    from birdnet_fs.runs.run import CONFIG, load_run
    from birdnet_fs.schema.networks import check_model

    opened, groups = load_run(run), {"frontend": frontend.preset}
    assigned(opened.experiment, settings or [], groups)
    if opened.experiment.model.head == "linear":  # other heads are refused with the settings
        check_model(dataclasses.replace(opened.experiment.model, quantized=True))
    if not cfg and output is None:
        raise UserError("The output folder is missing; add -o FOLDER for the new run.")
    if output is not None and (output / CONFIG).is_file() and output.resolve() == run.resolve():
        raise UserError(f"{output} is the float run itself; give another folder with -o.")
    if output is not None:
        check_output(output)
    from birdnet_fs.training.qat import qat_experiment

    chosen = override(qat_experiment(opened), settings or [], groups)
    if cfg or output is None:
        print(show(chosen))
        from birdnet_fs.training.checks.experiment import check_training

        say(check_training(chosen))
        return
    with folder_lock(output):
        train_and_report(chosen, output, overwrite)
    say(f"next: birdnet-fs export {output} --precision int8")
