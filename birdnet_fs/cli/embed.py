"""`birdnet-fs embed`: embeddings of recordings, kept in a store."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdnet_fs.core.lock import folder_lock

if TYPE_CHECKING:
    from birdnet_fs.data.ledger import Ledger


def embed(
    encoder: Annotated[
        Path,
        typer.Argument(metavar="ENCODER", help="A foreign .tflite or .onnx encoder, a run, or an exported file."),
    ],
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Recordings, or folders searched at any depth.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the store; added to when it exists.")],
    card: Annotated[
        str, typer.Option(help="Card of the encoder (birdnet-fs encoders); default: found by content.")
    ] = "",
    overlap: Annotated[float, typer.Option(help="Overlap of consecutive windows in seconds.")] = 0.0,
    dtype: Annotated[str, typer.Option(help="float16 or float32.")] = "float16",
    to: Annotated[
        str,
        typer.Option(
            help="Also write STORE/exports, in formats separated by commas: csv (recording, start_s, end_s, e0, e1, "
            "...), parquet (the same, embedding as a list of float32), npy (an array [windows, width], and "
            "windows.csv), hoplite (a database of perch-hoplite 1.0.2, float16; needs usearch)."
        ),
    ] = "",
    batch_size: Annotated[int, typer.Option("--batch_size", help="Windows per call.")] = 16,
    threads: Annotated[int, typer.Option(help="CPU threads of the encoder; 0 = default of the runtime.")] = 0,
) -> None:
    """Embed the windows of recordings and add them to a store.

    The same command again embeds only what is missing or changed; on a cluster: birdnet-fs cluster embed. A damaged
    recording does not stop it: it is listed with the reason in OUTPUT/ledger.csv. The exit status is 1 when no
    recording could be embedded.
    """
    from birdnet_fs.core.progress import say

    with folder_lock(output):
        from birdnet_fs.inference.embedder import open_embedder
        from birdnet_fs.search.embed_recordings import embed_recordings
        from birdnet_fs.search.exports import check_exports

        formats = check_exports(to)
        embedder = open_embedder(encoder, card, threads=threads)
        if embedder.license:
            say(f"{embedder.name}: license {embedder.license}.")
        ledger = embed_recordings(embedder, inputs, output, overlap_s=overlap, dtype=dtype, batch_size=batch_size)
        finish(ledger, output, formats)


def finish(ledger: "Ledger", output: Path, formats: Sequence[str] = ()) -> None:
    """Write the exports of a store and print the outcome.

    Args:
        ledger: Outcomes of the recordings.
        output: Folder of the store.
        formats: Names of exports. Default: none.

    Raises:
        Exit: No recording could be embedded; the exit status is 1.
    """
    from birdnet_fs.core.progress import say
    from birdnet_fs.search.exports import export_store
    from birdnet_fs.search.store import open_store

    for name in formats:
        say(f"export: {export_store(open_store(output), name)}")
    counts = ledger.counts()
    if counts["partial"] or counts["quarantined"]:
        say(ledger.summary())
    print(f"{counts['ok']} ok, {counts['partial']} partial, {counts['quarantined']} quarantined; {output}")
    if not counts["ok"] + counts["partial"]:
        raise typer.Exit(1)
