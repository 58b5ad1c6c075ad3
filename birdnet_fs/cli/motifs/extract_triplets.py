"""`birdnet-fs motifs extract-triplets`: the audio of triplets as .npy files."""

from pathlib import Path
from typing import Annotated

import typer


def extract_triplets(
    triplets: Annotated[Path, typer.Argument(metavar="TRIPLETS", help="Table of motifs generate-triplets.")],
    recordings: Annotated[Path, typer.Argument(metavar="RECORDINGS", help="Folder of the recordings that were mined.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the cuts. Default: TRIPLETS without .parquet.")
    ] = None,
) -> None:
    """Write the audio of each triplet, 7 s at 32 kHz each, which training reads faster than parts of recordings.

    A triplet takes 1.3 MB: OUTPUT/NNN/NNNNNN.npy, int16 [3, 224000]. The same command again writes what is missing. A
    triplet whose audio is missing, damaged or shorter than its place is listed with the reason in OUTPUT/ledger.csv.
    The exit status is 1 when no triplet has audio.
    """
    from birdnet_fs.core.files import check_output
    from birdnet_fs.core.progress import say
    from birdnet_fs.motifs.extract_triplets import extract_triplets as extract

    folder = output or triplets.with_suffix("")
    check_output(folder)
    ledger = extract(triplets, recordings, folder)
    counts = ledger.counts()
    if counts["quarantined"]:
        say(ledger.summary())
    print(f"{counts['ok']} ok, {counts['quarantined']} quarantined; {folder}")
    if not counts["ok"]:
        raise typer.Exit(1)
