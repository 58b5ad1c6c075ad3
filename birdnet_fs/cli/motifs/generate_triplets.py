"""`birdnet-fs motifs generate-triplets`: a table of triplets from mined recordings."""

import datetime
from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.errors import UserError


def generate_triplets(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="Parquet file of mined recordings (motifs consolidate).")
    ],
    samples: Annotated[str, typer.Option(help="Number of triplets, as 10000 or 5e5.")] = "1e5",
    by: Annotated[
        str,
        typer.Option(
            help="Groups with equally many triplets: family (needs --families) or species. Default: family when "
            "--families is given, else species."
        ),
    ] = "",
    families: Annotated[
        Path | None, typer.Option(help="CSV with the columns class and family, one row for each class.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the table of triplets.")] = Path(),
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
) -> None:
    """Draw triplets of motifs: an anchor, a neighbor of its group, and a sound of another group.

    Half of the neighbors are the pair of the motif in the same recording, half the motif of another recording of the
    group (in a family of another species where there is one); half of the distant sounds are motifs, half random
    places. The file is OUTPUT/<date>-motif-triplets-<samples>.parquet, with the columns a, a_loc, b, b_loc, c, c_loc:
    recordings, and times in seconds. An existing file is not overwritten.
    """
    from birdnet_fs.core.progress import say
    from birdnet_fs.motifs.profile_table import read_profile_table
    from birdnet_fs.motifs.triplets import (
        draw_triplets,
        parse_samples,
        read_families,
        triplet_file_name,
        write_triplets,
    )

    number = parse_samples(samples)
    if by not in ("", "family", "species"):
        raise UserError(f"--by must be family or species. Received: {by!r}")
    if by == "family" and families is None:
        raise UserError("--by family needs --families, a CSV with the columns class and family.")
    if by == "species" and families is not None:
        raise UserError("--families is for --by family; leave one of them out.")
    rows = read_profile_table(table)
    if families is None:
        say("Triplets are drawn by species; give --families for families.")
    file = output / triplet_file_name(number, datetime.date.today())
    if file.exists():
        raise UserError(f"{file} exists already; move it away, or give another folder with -o.")
    of_class = read_families(families) if families is not None else None
    drawn = draw_triplets(rows, number, families=of_class, seed=seed)
    write_triplets(drawn, file)
    print(file)
