"""`birdnet-fs quantize`: train a float run on with the rounding of int8, for artifacts of 8 bits that lose less."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.progress import say


def quantize(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A trained run of a convolutional family.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As training.epochs=10.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the new run.")] = None,
    cfg: Annotated[bool, typer.Option("--cfg", help="Print the resolved settings and stop.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is in OUTPUT.")] = False,
) -> None:
    """Go on with a run as int8 will compute it: 5 epochs on the clips it was trained on, to answer as it did.

    BatchNorm is folded into the convolutions, and every weight and activation is rounded to 8 bits while the network
    learns. The new run is evaluated, analyzed and exported like any other; `birdnet-fs export OUTPUT --precision int8`
    ships the ranges it has learned.
    """
    from birdnet_fs import frontend
    from birdnet_fs.cli.train import train_and_report
    from birdnet_fs.core.settings import override, show
    from birdnet_fs.runs.run import CONFIG, load_run
    from birdnet_fs.training.qat import qat_experiment

    chosen = override(qat_experiment(load_run(run)), settings or [], {"frontend": frontend.preset})
    if cfg:
        print(show(chosen))
        return
    if output is None:
        raise UserError("Where to write is not given; add -o FOLDER for the new run.")
    if (output / CONFIG).is_file() and output.resolve() == run.resolve():
        raise UserError(f"{output} is the float run itself; give another folder with -o.")
    check_output(output)
    train_and_report(chosen, output, overwrite)
    say(f"next: birdnet-fs export {output} --precision int8")
