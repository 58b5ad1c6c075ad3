"""`birdnet-fs camtrap`: an analysis as a package of Camtrap DP."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.cli.analysis_arguments import RecorderTimeZone, Recordings, Tables, TimeZone
from birdnet_fs.core.errors import UserError, nearest


def camtrap(
    tables: Tables,
    output: Annotated[Path, typer.Option("-o", "--output", help="New folder for the package.")],
    locations: Annotated[
        Path,
        typer.Option(
            help="CSV with the columns folder (of a recorder, relative to the input folder; '.' is that folder), "
            "latitude, longitude and, if known, name."
        ),
    ],
    title: Annotated[str, typer.Option(help="Title of the project.")],
    contributor: Annotated[str, typer.Option(help="Person or organization that is responsible.")],
    sampling_design: Annotated[
        str,
        typer.Option(
            "--sampling_design",
            help="simpleRandom, systematicRandom, clusteredRandom, experimental, targeted or opportunistic.",
        ),
    ],
    timezone: TimeZone = "",
    recorder_timezone: RecorderTimeZone = "",
    recordings: Recordings = None,
) -> None:
    """Write an analysis as Camtrap DP 1.0.2: datapackage.json, deployments.csv, media.csv and observations.csv.

    A deployment is a recorder of the table of locations, a medium a recording, an observation a detection. Every
    recording needs a clock time with a time zone, from its name, its metadata or --timezone.
    """
    from birdnet_fs.analysis.camtrap.locations import read_locations
    from birdnet_fs.analysis.camtrap.package import DESIGNS, Project, write_package
    from birdnet_fs.analysis.combined.clock_time import time_zone
    from birdnet_fs.cli.checks import check_exists
    from birdnet_fs.core.files import check_output

    if sampling_design not in DESIGNS:
        raise UserError(
            f"--sampling_design must be one of {', '.join(DESIGNS)}. Received: {sampling_design!r}."
            f"{nearest(sampling_design, DESIGNS)}"
        )
    zone, recorder_zone = time_zone(timezone), time_zone(recorder_timezone)
    check_exists(tables=tables, recordings=recordings)
    check_output(output)
    counts = write_package(
        tables,
        output,
        Project(title, contributor, sampling_design),
        read_locations(locations),
        zone=zone,
        recorder_zone=recorder_zone,
        recordings=recordings,
    )
    print(f"{', '.join(f'{n} {name}' for name, n in counts.items())}; {output / 'datapackage.json'}")
