"""Arguments that several verbs on recordings and on the output of `birdnet-fs analyze` share."""

from pathlib import Path
from typing import Annotated

import typer

Tables = Annotated[Path, typer.Argument(help="Output folder of birdnet-fs analyze.")]
SpeciesList = Annotated[
    Path | None,
    typer.Option(
        "--slist",
        help="Text file of class or scientific names, one per line; other classes are left out. Default: all classes.",
    ),
]
Recordings = Annotated[
    Path | None,
    typer.Option(
        "--recordings",
        help="Input folder of the analysis where it was moved to. Default: where it was.",
    ),
]
TimeZone = Annotated[
    str,
    typer.Option(
        "--timezone", help="Zone of clock times, as Europe/Zurich, UTC or +02:00, and of the recorders' clocks."
    ),
]
RecorderTimeZone = Annotated[
    str, typer.Option("--recorder_timezone", help="Zone of the recorders' clocks where it is another, as UTC.")
]
