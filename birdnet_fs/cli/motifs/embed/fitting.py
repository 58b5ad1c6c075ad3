"""`birdnet-fs motifs embed fit`: train a TileNet on triplets of motifs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from birdnet_fs.cli.checks import check_exists
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say

TABLE = typer.Argument(metavar="TABLE", help="Triplets (generate-triplets) or mined recordings (consolidate).")
AUDIO = typer.Argument(
    metavar="AUDIO", help="For triplets the folder of extract-triplets, for mined recordings that of the recordings."
)
CHOICES = {
    "compression": ("log", "none"),
    "schedule": ("step", "cosine", "constant", "onecycle"),
    "precision": ("auto", "float32", "bfloat16"),
    "distant": ("row", "batch"),
}


def fit(
    table: Annotated[Path, TABLE],
    audio: Annotated[Path, AUDIO],
    name: Annotated[str, typer.Option(help="Name of the run. Default: tile2vec-VARIANT.")] = "",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Run folder. Default: runs/NAME.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Run whose weights the training starts from; default: random weights.")
    ] = None,
    variant: Annotated[
        str, typer.Option(help="v2, v4 or v5 (sizes in docs/tile2vec.md). Default: v2, or what --dim fits.")
    ] = "",
    network: Annotated[
        str, typer.Option(help="Another network than TileNet (birdnet-fs models), on fixed log-mel features.")
    ] = "",
    dim: Annotated[int, typer.Option(help="Width of the embedding: 64 or 512; 0 = that of the variant.")] = 0,
    compression: Annotated[
        str, typer.Option(help="Of the energies of the trained mel bands: log, or none as in the document.")
    ] = "log",
    epochs: Annotated[int, typer.Option(help="Largest number of epochs.")] = 20,
    batches: Annotated[int, typer.Option(help="Batches of an epoch, whatever the number of recordings.")] = 500,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Triplets of a batch.")] = 64,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="At the start.")] = 1e-3,
    schedule: Annotated[str, typer.Option(help="step, cosine, constant or onecycle.")] = "step",
    step_factor: Annotated[
        float, typer.Option("--step-factor", help="schedule=step: factor of the learning rate after a step.")
    ] = 0.1,
    step_epochs: Annotated[int, typer.Option("--step-epochs", help="schedule=step: epochs between two steps.")] = 1,
    mel_rate: Annotated[
        float, typer.Option("--mel-rate", help="Learning rate of the mel matrix as a factor; 1 in the document.")
    ] = 0.01,
    margin: Annotated[float, typer.Option(help="Of the triplet loss; 0.1 in the paper.")] = 50.0,
    l2: Annotated[float, typer.Option(help="Weight of the norms in the loss; 0 in the paper.")] = 0.01,
    distant: Annotated[
        str,
        typer.Option(
            help="Distant segments of an anchor: row, one of another row as in the document, or batch, anchors and "
            "neighbors of all rows of other recordings, which takes a third less time."
        ),
    ] = "row",
    patience: Annotated[
        int, typer.Option(help="Epochs without a lower validation loss after which training ends; 0 = never.")
    ] = 3,
    val_fraction: Annotated[
        float, typer.Option("--val-fraction", help="Share of the recordings for the validation loss; 0 = none.")
    ] = 0.1,
    shift: Annotated[float, typer.Option(help="Largest time shift of a segment in seconds.")] = 1.0,
    augment: Annotated[
        bool, typer.Option("--augment/--no-augment", help="Change gain, noise and pitch of anchors and neighbors.")
    ] = True,
    background: Annotated[
        Path | None, typer.Option(help="Folder of recordings without calls, for the noise. Default: colored noise.")
    ] = None,
    precision: Annotated[str, typer.Option(help="auto (bfloat16 on a GPU), float32 or bfloat16.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 42,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 = default of torch.")] = 0,
    minutes: Annotated[float, typer.Option(help="Training ends after this time with a whole run; 0 = no limit.")] = 0.0,
) -> None:
    """Train an encoder without labels, so that a motif and its neighbor have similar embeddings (Tile2Vec).

    The run is an ordinary one: fewshot-eval, enroll, export --embeddings, embed and search read it, and analyze after
    enroll. A signal stops it after the step; the same command goes on from there.
    """
    options: dict[str, Any] = {
        "compression": compression,
        "schedule": schedule,
        "precision": precision,
        "distant": distant,
    }
    for option, allowed in CHOICES.items():
        if options[option] not in allowed:
            raise UserError(f"--{option} must be one of {', '.join(allowed)}. Received: {options[option]!r}")
    if network and (variant or dim):
        raise UserError("--variant and --dim are for TileNet; leave them out with --network.")
    check_exists(TABLE=table, AUDIO=audio)
    from birdnet_fs.cli.motifs.embed.data import open_batches
    from birdnet_fs.core.files import check_output
    from birdnet_fs.core.lock import folder_lock
    from birdnet_fs.motifs.tile2vec.settings import Tile2VecSettings, variant_of_width

    chosen = variant_of_width(variant or None, dim or None)
    settings = Tile2VecSettings(
        variant=chosen,
        network=network,
        seed=seed,
        epochs=epochs,
        n_batches=batches,
        batch_size=batch_size,
        learning_rate=learning_rate,
        step_factor=step_factor,
        step_epochs=step_epochs,
        mel_rate=mel_rate,
        margin=margin,
        l2=l2,
        patience=patience,
        val_fraction=val_fraction,
        shift_s=shift,
        augment=augment,
        background=str(background.absolute()) if background else "",
        threads=threads,
        **options,
    )
    if name and Path(name).name != name:
        raise UserError(f"--name must be a plain name; give a folder with -o. Received: {name!r}")
    folder = output or Path("runs") / (name or f"tile2vec-{network.replace('/', '-') or chosen}")
    check_output(folder)
    with folder_lock(folder):
        from birdnet_fs.motifs.tile2vec.training import fit_tile2vec

        run = fit_tile2vec(
            open_batches(table, audio, settings), settings, folder, checkpoint=checkpoint, limit_s=60 * minutes
        )
    say(f"next: birdnet-fs enroll {run.path} CLIPS -o RUN, or birdnet-fs embed {run.path} RECORDINGS -o STORE")
    print(run.path)
