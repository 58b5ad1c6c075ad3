"""`birdnet-fs motifs embed apply`: embeddings of recordings by a trained run, kept in a store."""

from pathlib import Path
from typing import Annotated

import typer


def apply(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run of motifs embed fit.")],
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Recordings, or folders searched at any depth.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the store; added to when it exists.")],
    overlap: Annotated[float, typer.Option(help="Overlap of consecutive windows of 5 s in seconds.")] = 0.0,
    to: Annotated[
        str, typer.Option(help="Also write STORE/exports: csv, parquet, npy, hoplite; several by commas.")
    ] = "",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 = default of torch.")] = 0,
) -> None:
    """Embed the windows of recordings and add them to a store, as `birdnet-fs embed` does with any encoder.

    The same command again embeds only what is missing or changed.
    """
    from birdnet_fs.cli.embed import embed

    embed(run, inputs, output, overlap=overlap, to=to, threads=threads)
