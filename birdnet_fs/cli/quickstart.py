"""`birdnet-fs quickstart`: the whole road on audio the package makes itself."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.progress import say


def quickstart(
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder to make.")] = Path("quickstart"),
    quick: Annotated[bool, typer.Option("--quick", help="One epoch only: shows the road, learns little.")] = False,
) -> None:
    """Make an aviary, train, evaluate, export, analyze: under 5 minutes on 2 cores."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "recordings" / "metadata.csv").is_file():
        raise UserError(f"{folder} exists and is not a quickstart; give another folder with -o.")
    check_output(folder)
    import dataclasses

    from birdnet_fs.analysis.analyze import analyze
    from birdnet_fs.cli.starter import aviary
    from birdnet_fs.cli.train import headline
    from birdnet_fs.data.synthetic.aviary import make_aviary
    from birdnet_fs.export.export import export_run
    from birdnet_fs.inference.open import open_engine
    from birdnet_fs.reports.held_out import report_on_held_out
    from birdnet_fs.runs.resolve import is_finished
    from birdnet_fs.runs.run import load_run
    from birdnet_fs.training.trainer import train

    recordings, run_folder, artifacts = folder / "recordings", folder / "run", folder / "artifact"
    say("1/5 an aviary: recordings the package makes itself, so every answer is known")
    if not (recordings / "metadata.csv").is_file():
        make_aviary(recordings)
    experiment = aviary(quick=quick)
    experiment = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, root=str(recordings)))
    say("2/5 train a small network; one fifth of the individuals is held out")
    run = load_run(run_folder) if is_finished(run_folder, experiment) else train(experiment, run_folder)
    say("3/5 evaluate on the individuals it never heard")
    metrics = report_on_held_out(run)
    say("4/5 export to TFLite, and prove that it gives the same scores")
    written = export_run(run, artifacts, name="aviary")
    say("5/5 analyze the soundscapes with the exported file")
    soundscapes = sorted((recordings / "audio").glob("aviary_soundscape_*"))
    tables = folder / "analysis"
    shipped = open_engine(written[0].path)
    analyze(shipped, soundscapes, tables, formats=("csv", "raven", "audacity"), min_confidence=0.5)
    print(
        f"\n{headline(metrics)}  on individuals it never heard\n"
        f"look at    {run_folder / 'report.html'}   (any browser)\n"
        f"listen to  {soundscapes[0]} and the other soundscapes with the tables in {tables} (Raven, Audacity)\n"
        f"ship       {written[0].path}   with its proof {artifacts / 'parity.json'}\n"
        "your own:  birdnet-fs init; birdnet-fs train config.py:my_recordings data.root=FOLDER"
    )
