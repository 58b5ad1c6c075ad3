"""`birdnet-fs segments`: detections cut out as clips."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.cli.analysis_arguments import Recordings, SpeciesList, Tables


def segments(
    tables: Tables,
    output: Annotated[Path, typer.Option("-o", "--output", help="New folder for the clips, one folder per class.")],
    min_conf: Annotated[float, typer.Option("--min_conf", help="Lowest confidence of a clip, 0..1.")] = 0.0,
    max_segments: Annotated[
        int, typer.Option("--max_segments", help="Largest number of clips per class, the most confident; 0 = no limit.")
    ] = 100,
    margin: Annotated[float, typer.Option(help="Seconds before and after a detection.")] = 1.0,
    slist: SpeciesList = None,
    recordings: Recordings = None,
) -> None:
    """Cut the detections of an analysis out of their recordings.

    OUTPUT/CLASS gets a WAV file for each detection, at the sample rate of its recording, and OUTPUT/segments.csv a row.
    """
    from birdnet_fs.analysis.options import read_species
    from birdnet_fs.cli.checks import check_exists, check_numbers
    from birdnet_fs.core.files import check_output

    check_numbers(min_conf=(min_conf, 0, 1), max_segments=(max_segments, 0, 1e9), margin=(margin, 0, 3600))
    check_exists(tables=tables, recordings=recordings)
    check_output(output)
    species = read_species(slist) if slist else ()
    from birdnet_fs.analysis.segments import cut_segments

    n = cut_segments(
        tables,
        output,
        min_confidence=min_conf,
        max_segments=max_segments,
        margin_s=margin,
        species=species,
        recordings=recordings,
    )
    from birdnet_fs.core.text import count

    print(f"{count(n, 'clip')}; {output / 'segments.csv'}")
