"""`birdnet-fs motifs extract-top-motif`: clips of the motifs and the discord of every recording."""

from pathlib import Path
from typing import Annotated

import typer


def extract_top_motif(
    folder: Annotated[Path, typer.Argument(metavar="MOTIFS", help="Output of birdnet-fs motifs extract.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the clips; continued when it exists.")],
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of the recordings, if it is no longer where it was.")
    ] = None,
    n_motifs: Annotated[int, typer.Option("--n-motifs", help="Motifs of each recording.")] = 3,
) -> None:
    """Cut the top motifs and the discord of every recording, each with its pair, as Ogg of 5 s.

    OUTPUT/LABEL/RECORDING gets motif.0.ogg, motif.0.pair.ogg ... discord.0.ogg, discord.0.pair.ogg and metadata.json.
    Recordings without a motif are listed with the reason in OUTPUT/ledger.csv. The exit status is 1 when no recording
    has one.
    """
    from birdnet_fs.core.files import check_output
    from birdnet_fs.core.progress import say
    from birdnet_fs.motifs.motif_clips import write_top_motifs

    check_output(output)
    ledger = write_top_motifs(folder, output, recordings=recordings, n_motifs=n_motifs)
    counts = ledger.counts()
    if counts["quarantined"]:
        say(ledger.summary())
    print(f"{counts['ok']} recordings, {counts['quarantined']} without clips; {output}")
    if not counts["ok"]:
        raise typer.Exit(1)
