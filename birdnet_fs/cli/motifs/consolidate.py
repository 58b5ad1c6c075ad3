"""`birdnet-fs motifs consolidate`: one table of all mined recordings."""

from pathlib import Path
from typing import Annotated

import typer


def consolidate(
    folder: Annotated[Path, typer.Argument(metavar="MOTIFS", help="Output of birdnet-fs motifs extract.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Parquet file. Default: MOTIFS/motif-consolidated.parquet.")
    ] = None,
) -> None:
    """Write one Parquet table with a row for every mined recording: metadata, motifs, and the matrix profile."""
    from birdnet_fs.cli.checks import check_file_output
    from birdnet_fs.motifs.consolidation import TABLE
    from birdnet_fs.motifs.consolidation import consolidate as write_table

    output = output or folder / TABLE
    check_file_output(output)
    print(f"{write_table(folder, output)} recordings; {output}")
