"""`birdnet-fs classify train`: one tree model per class on embeddings of clips."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.cli.classify.prepare_dataset import BIRDCLEF_2021, FilterSet, Soundscapes


def train(
    output: Annotated[Path, typer.Argument(help="Folder of the classifier.")],
    motif_root: Annotated[
        Path, typer.Option(help="Folder of clips: of classify prepare-dataset or motifs extract-top-motif.")
    ],
    birdclef_root: Soundscapes = None,
    use_ref_motif: Annotated[
        bool,
        typer.Option(
            "--use-ref-motif/--no-use-ref-motif",
            help="Also use the minimum, median and maximum of the join with each reference motif.",
        ),
    ] = False,
    ref_motif_root: Annotated[
        Path | None, typer.Option(help="Folder of birdnet-fs motifs extract --sample-k, with --use-ref-motif.")
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of the recordings of the reference motifs; default: as mined.")
    ] = None,
    embedding_checkpoint: Annotated[
        str, typer.Option(help="Run folder, exported file, foreign encoder, or logmel.")
    ] = "logmel",
    dim: Annotated[int, typer.Option(help="Width that the embedding must have; 0 = any.")] = 0,
    filter_set: FilterSet = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads of the embedding; 0 = default of the runtime.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a classifier in OUTPUT.")] = False,
) -> None:
    """Train a classifier of 31-leaf balanced trees per class on 90 % of the recordings and test it on 10 %.

    OUTPUT gets trees as text, metadata.json and the reference motifs; nothing is pickled. The test score is the macro
    F1 of the most probable class.
    """
    from birdnet_fs.cli.checks import check_numbers
    from birdnet_fs.core.errors import UserError
    from birdnet_fs.core.files import check_output
    from birdnet_fs.core.text import escaped
    from birdnet_fs.motifs.classifier.clips import OTHER, motif_clips, other_clips, read_filter_set
    from birdnet_fs.motifs.classifier.reference_motifs import read_reference_motifs
    from birdnet_fs.motifs.classifier.train import train_classifier
    from birdnet_fs.motifs.clip_embeddings import open_embedding

    check_output(output)
    check_numbers(dim=(dim, 0, 2**20), seed=(seed, 0, 2**64 - 1), threads=(threads, 0, 1024))
    if use_ref_motif != (ref_motif_root is not None):
        raise UserError("--use-ref-motif and --ref-motif-root FOLDER belong together; give both or neither.")
    features = open_embedding(embedding_checkpoint, dim=dim, threads=threads)
    clips = motif_clips(motif_root, read_filter_set(filter_set))
    if not any(each.label == OTHER for each in clips):
        clips += other_clips(birdclef_root, BIRDCLEF_2021)
    reference = read_reference_motifs(ref_motif_root, recordings) if ref_motif_root else None
    found = train_classifier(clips, features, output, reference=reference, seed=seed, overwrite=overwrite)
    print(f"{found.n_train} clips for training, {found.n_test} for the test")
    print(f"test score: {found.macro_f1}")
    print(escaped(output))
