"""`birdnet-fs enroll`: add classes to a trained run from a few clips each."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import count, escaped


@locked("output")
def enroll(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A trained or enrolled run, or the file of an encoder (BirdNET, Perch)."),
    ],
    support: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SUPPORT]", help="Clips of the new classes: a folder with one subfolder per class, or a table."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings for reading SUPPORT, as data.where=split=a; model.encoder_card=NAME for an encoder.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the new run.")] = None,
    background: Annotated[
        Path | None, typer.Option(help="Folder of recordings without any of the classes, to calibrate 'unknown'.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Class to remove; may be repeated.")] = None,
    extend: Annotated[bool, typer.Option("--extend", help="Add clips to existing classes.")] = False,
    unknown: Annotated[
        bool,
        typer.Option("--unknown/--no-unknown", help="Add the class 'unknown' for inputs that are similar to no class."),
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run in OUTPUT.")] = False,
) -> None:
    """Add classes to a run without training: the prototype of a class is the mean embedding of its clips.

    The new run can be used like any other: analyze, evaluate, export. Classes enrolled before are kept; the classes
    that a run was trained on are not part of the new run. The same command given again keeps the run.
    """
    from birdnet_fs import schema
    from birdnet_fs.audio.find import find_audio
    from birdnet_fs.cli.checks import check_data_settings, check_exists
    from birdnet_fs.cli.encoder_base import base_run, check_base, divide_settings
    from birdnet_fs.core.settings import override
    from birdnet_fs.data.manifest import Clip, read_manifest
    from birdnet_fs.runs.folder_kind import refuse_other_results
    from birdnet_fs.runs.run import CONFIG, load_run

    if output is None:
        raise UserError("The output folder is missing; add -o FOLDER for the new run.")
    if support is None and not remove:
        raise UserError("Nothing to do: give SUPPORT, a folder of clips of new classes, or --remove CLASS.")
    card, settings = divide_settings(run, settings or [])
    wrong = next((s for s in settings if not s.startswith("data.")), None)
    if wrong is not None:
        raise UserError(f"Settings of this command must be data.KEY=VALUE. Received: {wrong!r}")
    if (output / CONFIG).is_file() and output.resolve() == run.resolve():
        raise UserError(f"{output} is the run itself; give another folder with -o.")
    check_output(output)
    refuse_other_results(output, "a run")
    if support is not None and not support.exists():
        raise UserError(f"SUPPORT must be a folder of clips or a table; {support} does not exist.")
    check_exists(**{"--background": background})
    check_data_settings(settings)
    check_base(run, card)
    data = schema.Data() if run.is_file() else load_run(run).experiment.data
    manifest = None
    if support is not None:
        asked = schema.Data(
            root=str(support if support.is_dir() else support.parent),
            table="" if support.is_dir() else support.name,
            label_column=data.label_column,
            group_column=data.group_column,
        )
        manifest = read_manifest(override(schema.Experiment(data=asked), settings).data)
    noises = []
    if background is not None:
        listed = find_audio(background)
        noises = [Clip(path) for path in listed.paths]
        for note in listed.notes + [f"{escaped(path)}: {reason}" for path, reason in listed.refused]:
            say(f"--background: {note}")
    if background is not None and not noises:
        raise UserError(f"--background must be a folder with recordings; there are none in {background}.")
    with base_run(run, card, manifest.clips if manifest else ()) as opened:
        if (output / CONFIG).is_file() and not overwrite:
            from birdnet_fs.fewshot.enrollment_inputs import enrollment_changes, enrollment_inputs

            options = {"remove": sorted(remove or []), "extend": extend, "unknown": unknown}
            given = enrollment_inputs(opened, manifest.clips if manifest else (), noises, options)
            changes = enrollment_changes(output, given)
            if changes == []:
                classes = load_run(output).classes
                say(f"{output} already holds this run; it is kept (--overwrite makes it again).")
                print(f"{count(len(classes), 'class', 'classes')}: {', '.join(classes)}")
                return
            why = "whose inputs are not known" if changes is None else f"of another enrollment ({', '.join(changes)})"
            raise UserError(f"{output} holds a run {why}; give another folder with -o, or --overwrite to replace it.")
        from birdnet_fs.fewshot.enrollment import enroll

        new = enroll(opened, manifest, output, background=noises, remove=remove or [], extend=extend, unknown=unknown)
        print(f"{count(len(new.classes), 'class', 'classes')}: {', '.join(new.classes)}")
        say(f"run folder: {output}")
