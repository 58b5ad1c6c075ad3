"""`birdnet-fs classify prepare-dataset`: the same number of augmented clips of every class."""

from pathlib import Path
from typing import Annotated

import typer

BIRDCLEF_2021 = Path("data/raw/birdclef-2021")
Soundscapes = Annotated[
    Path | None,
    typer.Option(
        "--birdclef-root",
        help="Folder of BirdCLEF-2021, whose windows without calls are the class other; default: "
        "data/raw/birdclef-2021 where it exists.",
    ),
]
FilterSet = Annotated[
    Path | None, typer.Option(help="JSON list of the classes that count, as scored_birds.json; default: all.")
]


def prepare_dataset(
    output: Annotated[Path, typer.Argument(help="Folder of the clips, LABEL/NAME_NUMBER.ogg; continued.")],
    motif_root: Annotated[Path, typer.Option(help="Folder of birdnet-fs motifs extract-top-motif, or of clips.")],
    num_per_class: Annotated[int, typer.Option(help="Clips of each class, drawn with replacement.")] = 2500,
    limit: Annotated[int, typer.Option(help="Largest number of clips in all; 0 = no limit.")] = 0,
    birdclef_root: Soundscapes = None,
    filter_set: FilterSet = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
) -> None:
    """Write the same number of clips of every class, with gain, pitch, a shift in time and colored noise.

    The same command again writes what is missing. A source that cannot be read does not stop it: its clips are listed
    with the reason in OUTPUT/ledger.csv. The exit status is 1 when no clip could be written.
    """
    from birdnet_fs.cli.checks import check_numbers
    from birdnet_fs.core.files import check_output
    from birdnet_fs.core.progress import say
    from birdnet_fs.core.text import escaped
    from birdnet_fs.motifs.classifier.clips import motif_clips, other_clips, read_filter_set
    from birdnet_fs.motifs.classifier.prepare import prepare_dataset as prepare

    check_output(output)
    check_numbers(**{"num-per-class": (num_per_class, 1, 1e6), "limit": (limit, 0, 1e9), "seed": (seed, 0, 2**64 - 1)})
    clips = motif_clips(motif_root, read_filter_set(filter_set))
    clips += other_clips(birdclef_root, BIRDCLEF_2021)
    ledger = prepare(clips, output, num_per_class=num_per_class, limit=limit, seed=seed)
    counts = ledger.counts()
    if counts["partial"] or counts["quarantined"]:
        say(ledger.summary())
    print(f"{counts['ok']} ok, {counts['partial']} partial, {counts['quarantined']} quarantined; {escaped(output)}")
    if not counts["ok"] + counts["partial"]:
        raise typer.Exit(1)
