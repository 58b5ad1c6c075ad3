"""`birdnet-fs motifs pages`: pages of mined recordings and of classes, to look at and listen to."""

from pathlib import Path
from typing import Annotated

import typer


def pages(
    folder: Annotated[Path, typer.Argument(metavar="MOTIFS", help="Output of birdnet-fs motifs extract.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the pages.")],
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of the recordings, if it is no longer where it was.")
    ] = None,
    limit: Annotated[
        int, typer.Option(help="Recordings with a page of their own, and recordings on the page of a class; 0 = all.")
    ] = 20,
    n_motifs: Annotated[int, typer.Option("--n-motifs", help="Motifs of each recording.")] = 3,
) -> None:
    """Write a page for each recording and one for each class.

    OUTPUT/recordings/NAME.html shows spectrogram, motifs, discord and matrix profile of a recording, with sound;
    OUTPUT/classes/LABEL.html the motif of every recording of a class side by side. A page is one file that opens
    without a network. A recording that cannot be read has no page, and a line gives the reason.
    """
    from birdnet_fs.cli.checks import check_numbers
    from birdnet_fs.core.files import check_output
    from birdnet_fs.core.lock import folder_lock

    check_numbers(limit=(limit, 0, 1_000_000), **{"n-motifs": (n_motifs, 1, 100)})
    check_output(output)
    from birdnet_fs.reports.motifs import write_pages

    with folder_lock(output):
        n_recordings, n_classes = write_pages(
            folder, output, recordings=recordings, limit=limit or 1_000_000, n_motifs=n_motifs
        )
    print(f"{n_recordings} recordings, {n_classes} classes; {output}")
