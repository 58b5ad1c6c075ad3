"""`birdnet-fs motifs motif-track`: the motifs of all recordings behind one another, to listen to."""

from pathlib import Path
from typing import Annotated

import typer


def motif_track(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT.wav", help="WAV file of 32 kHz.")],
    folder: Annotated[Path, typer.Option("--input", help="Output of birdnet-fs motifs extract.")],
    index: Annotated[str, typer.Option(help="motif_0, motif_1, discord_0 or discord_1.")] = "motif_0",
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of the recordings, if it is no longer where it was.")
    ] = None,
) -> None:
    """Write 3 s of every recording behind one another, from the start of its motif or discord on."""
    from birdnet_fs.cli.checks import check_file_output
    from birdnet_fs.motifs.motif_clips import write_track

    check_file_output(output)
    n = write_track(folder, output, index=index, recordings=recordings)
    print(f"{n} recordings; {output}")
