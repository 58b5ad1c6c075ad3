"""`birdnet-fs motifs embed summary`: the layers of a TileNet, and a batch size and learning rate to train it with."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.cli.checks import check_exists
from birdnet_fs.cli.motifs.embed.fitting import AUDIO, TABLE


def summary(
    table: Annotated[Path, TABLE],
    audio: Annotated[Path, AUDIO],
    variant: Annotated[str, typer.Option(help="v2, v4 or v5. Default: v2, or what --dim fits.")] = "",
    dim: Annotated[int, typer.Option(help="Width of the embedding: 64 or 512; 0 = that of the variant.")] = 0,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Triplets of a batch of the search for a learning rate.")
    ] = 16,
    steps: Annotated[int, typer.Option(help="Steps of the search for a learning rate; 0 = no search.")] = 60,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 42,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 = default of torch.")] = 0,
) -> None:
    """Print layers and parameters, and search for a batch size and a learning rate.

    The batch size is the largest power of two that fits into the free memory, computed from one small batch. The
    learning rate is that at which the loss falls fastest while the rate grows from step to step.
    """
    check_exists(TABLE=table, AUDIO=audio)
    import keras
    import torch

    from birdnet_fs.cli.motifs.embed.data import open_batches
    from birdnet_fs.motifs.tile2vec.finders import find_batch_size, find_learning_rate
    from birdnet_fs.motifs.tile2vec.settings import Tile2VecSettings, variant_of_width
    from birdnet_fs.motifs.tile2vec.training import initial_model
    from birdnet_fs.training.loop import device_of

    settings = Tile2VecSettings(
        variant=variant_of_width(variant or None, dim or None), batch_size=batch_size, seed=seed, threads=threads
    )
    batches = open_batches(table, audio, settings)
    torch.set_num_threads(threads or torch.get_num_threads())
    with keras.device(device_of("auto")):
        model = initial_model(settings)
    for layer in model.layers:
        if layer.weights and layer.name != "logits":
            shape = " x ".join(str(n) for n in layer.output.shape[1:])
            print(f"{layer.name:24} {shape:>16} {layer.count_params():>12,}")
    n_encoder = sum(layer.count_params() for layer in model.layers if layer.name != "logits")
    n_trained = sum(v.value.numel() for v in model.trainable_variables if not v.path.startswith("logits/"))
    print(f"{n_encoder:,} parameters, of which {n_trained:,} are trained; embedding of {settings.width}")
    print(f"{len(batches.training_rows)} triplets to train on, {len(batches.validation_rows)} for validation")
    print(f"batch size: {find_batch_size(model, batches.training(0), settings)} triplets fit into the free memory")
    if steps:
        rate, curve = find_learning_rate(model, batches.training, settings, steps)
        for tried, loss in curve:
            print(f"  {tried:.2e} {loss:.4g}")
        print("learning rate: " + (f"{rate:.1e}" if rate else "none found; the loss did not fall (try more --steps)"))
