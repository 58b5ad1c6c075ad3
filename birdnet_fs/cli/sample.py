"""`birdnet-fs sample`: clips of randomly drawn windows of every class, and a sheet for the verdicts of a person."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.cli.analysis_arguments import Recordings, SpeciesList, Tables


def sample(
    tables: Tables,
    output: Annotated[Path, typer.Option("-o", "--output", help="New folder for clips, sheet.csv and sample.json.")],
    per_class: Annotated[
        int, typer.Option("--per-class", help="Windows of each class; as many in every stratum of the score.")
    ] = 50,
    margin: Annotated[float, typer.Option(help="Seconds before and after a window in its clip.")] = 1.0,
    slist: SpeciesList = None,
    recordings: Recordings = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw; the same seed draws the same windows.")] = 0,
) -> None:
    """Draw windows of every class at random, for a person to verify.

    Windows are divided into strata by score: the lower half of the detections, the lower half of the rest, and so on,
    and the windows without a detection. Fill in the column verdict of OUTPUT/sheet.csv (yes, no or unsure: does the
    class call between start_in_clip_s and end_in_clip_s of the clip?), then give `birdnet-fs estimate OUTPUT`. Analyze
    with a low --min_conf, and without merging.
    """
    from birdnet_fs.analysis.options import read_species
    from birdnet_fs.cli.checks import check_exists, check_numbers
    from birdnet_fs.core.files import check_output

    check_numbers(**{"per-class": (per_class, 1, 1e9), "margin": (margin, 0, 3600), "seed": (seed, 0, 2**63)})
    check_exists(tables=tables, recordings=recordings)
    check_output(output)
    species = read_species(slist) if slist else ()
    from birdnet_fs.analysis.verification.sample import sample_windows

    counts = sample_windows(
        tables, output, per_class=per_class, margin_s=margin, species=species, recordings=recordings, seed=seed
    )
    print(
        f"{sum(counts.values())} clips of {len(counts)} classes; fill in the column verdict of {output / 'sheet.csv'}"
    )
