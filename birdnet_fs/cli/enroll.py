"""`birdnet-fs enroll`: new classes for a trained run from a few clips each."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.progress import say


def enroll(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A trained run, or one that was enrolled.")],
    support: Annotated[
        Path | None,
        typer.Argument(metavar="[SUPPORT]", help="Clips of the new classes: a folder for each, or a table."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="How SUPPORT is read, as data.where=split=a.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The new run's folder.")] = None,
    background: Annotated[
        Path | None, typer.Option(help="Folder of recordings with none of the classes, to calibrate 'unknown' on.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A class to leave out; may be given again.")] = None,
    extend: Annotated[bool, typer.Option("--extend", help="Add clips to classes that are known already.")] = False,
    unknown: Annotated[
        bool, typer.Option("--unknown/--no-unknown", help="Whether 'unknown' stands when no class is near.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is in OUTPUT.")] = False,
) -> None:
    """Teach a run new classes in seconds, without training: each becomes the mean of its clips' embeddings.

    The new run is used like any other: analyze, evaluate, export. Classes enrolled before are kept; those of a run
    that was trained otherwise are left out.
    """
    from birdnet_fs import schema
    from birdnet_fs.audio.read import find_audio
    from birdnet_fs.core.settings import override
    from birdnet_fs.data.manifest import Clip, read_manifest
    from birdnet_fs.runs.run import CONFIG, load_run

    if output is None:
        raise UserError("Where to write is not given; add -o FOLDER for the new run.")
    if support is None and not remove:
        raise UserError("Nothing to do: give a folder of clips to learn from, or --remove CLASS.")
    wrong = next((s for s in settings or [] if not s.startswith("data.")), None)
    if wrong is not None:
        raise UserError(f"Settings of this command must be data.KEY=VALUE. Received: {wrong!r}")
    if (output / CONFIG).is_file() and (output.resolve() == run.resolve() or not overwrite):
        raise UserError(f"{output} holds a run already; give another folder with -o, or --overwrite to replace it.")
    check_output(output)
    opened = load_run(run)
    manifest = None
    if support is not None:
        if not support.exists():
            raise UserError(f"Clips to learn from were expected at {support} (a folder or a table); none is there.")
        asked = schema.Data(
            root=str(support if support.is_dir() else support.parent),
            table="" if support.is_dir() else support.name,
            label_column=opened.experiment.data.label_column,
            group_column=opened.experiment.data.group_column,
        )
        manifest = read_manifest(override(schema.Experiment(data=asked), settings or []).data)
    noises = [Clip(path) for path in find_audio(background)] if background is not None else []
    if background is not None and not noises:
        raise UserError(f"--background must be a folder with recordings. Received: {background}")
    from birdnet_fs.fewshot.enrollment import enroll

    new = enroll(opened, manifest, output, background=noises, remove=remove or [], extend=extend, unknown=unknown)
    print(f"{len(new.classes)} classes: {', '.join(new.classes)}")
    say(f"run folder: {output}")
