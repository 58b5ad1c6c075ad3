"""`birdnet-fs quickstart`: the complete workflow on synthetic recordings."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say


@locked("folder")
def quickstart(
    folder: Annotated[Path, typer.Option("-o", "--output", help="Output folder.")] = Path("quickstart"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Train for one epoch and verify on 100 segments only, to show the workflow.")
    ] = False,
) -> None:
    """Generate synthetic recordings, train, evaluate, export and analyze: less than 5 minutes on 2 cores."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "recordings" / "metadata.csv").is_file():
        raise UserError(f"{folder} exists and was not written by quickstart; give another folder with -o.")
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
    say("1/5 generate synthetic recordings, whose labels are known exactly")
    if not (recordings / "metadata.csv").is_file():
        make_aviary(recordings)
    experiment = aviary(quick=quick)
    experiment = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, root=str(recordings)))
    say("2/5 train a small network; one fifth of the individuals is held out")
    run = load_run(run_folder) if is_finished(run_folder, experiment) else train(experiment, run_folder)
    say("3/5 evaluate on the held-out individuals")
    metrics = report_on_held_out(run)
    say("4/5 export to TFLite, and verify that the scores are the same")
    written = export_run(run, artifacts, name="aviary", n_segments=100 if quick else 1000)
    say("5/5 analyze the soundscapes with the exported file")
    soundscapes = sorted((recordings / "audio").glob("aviary_soundscape_*"))
    tables = folder / "analysis"
    shipped = open_engine(written[0].path)
    analyze(shipped, soundscapes, tables, formats=("csv", "raven", "audacity"), min_confidence=0.5)
    print(
        f"\n{headline(metrics)}  on held-out individuals\n"
        f"report     {run_folder / 'report.html'}   (any browser)\n"
        f"listen     {soundscapes[0]} and the other soundscapes with the tables in {tables} (Raven, Audacity)\n"
        f"deploy     {written[0].path}   with its parity report {artifacts / 'parity.json'}\n"
        "your data  birdnet-fs init; birdnet-fs train config.py:my_recordings data.root=FOLDER"
    )
