"""`birdnet-fs motifs extract`: the matrix profile, the motif and the discord of every recording."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.cli.checks import check_inputs


def extract(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECORDINGS...", help="Recordings, or folders searched at any depth; a folder is a class."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of mined recordings; continued when it exists.")
    ],
    cens_sr: Annotated[float, typer.Option("--cens-sr", help="Frames a second of the features, of any kind.")] = 10.0,
    mp_window: Annotated[
        int, typer.Option("--mp-window", help="Frames of a window: 50 are 5 s at 10 frames a second.")
    ] = 50,
    feature: Annotated[
        str,
        typer.Option(
            help="cens (chroma smoothed over 41 frames, 4.1 s at 10 a second: phrases, not syllables); shape (of the "
            "spectrum), chroma or logmel (for syllables, with --cens-sr 50); embedding (of the windows that begin at "
            "every frame, with --encoder)."
        ),
    ] = "cens",
    encoder: Annotated[
        Path | None, typer.Option(help="For embedding: a foreign .tflite or .onnx encoder, a run, or an exported file.")
    ] = None,
    card: Annotated[str, typer.Option(help="Card of a foreign encoder; default: found by content.")] = "",
    louder_half: Annotated[
        bool,
        typer.Option(
            "--louder-half/--no-louder-half", help="Compare only the louder half of the windows of a recording."
        ),
    ] = False,
    max_distance: Annotated[
        float,
        typer.Option(
            help="Largest distance of a motif, as a share of the mean one between windows of its recording; a "
            "recording whose closest windows are farther apart has none. 0 = no limit; 0.3 suits shape."
        ),
    ] = 0.0,
    sample_k: Annotated[
        int, typer.Option("--sample-k", help="Mine this number of recordings, drawn at random; 0 = all.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; each holds a recording in memory.")] = 1,
) -> None:
    """Find the motif and the discord of every recording.

    The motif is the pair of windows that are most similar to each other, the discord the window that is least similar
    to all others. OUTPUT has a folder for every recording: metadata.json (motif_0, motif_1, discord_0, discord_1 in
    frames, and in seconds as motif_0_s ...), mp.npy (the matrix profile) and pi.npy (the neighbors). The same command
    again mines only what is missing or changed. Recordings without a motif (shorter than a window, silent, damaged) are
    listed with the reason in OUTPUT/ledger.csv. The exit status is 1 when no recording has a motif.
    """
    check_inputs(inputs)
    from birdnet_fs.analysis.inputs import find_recordings, table_stems
    from birdnet_fs.core.files import check_output
    from birdnet_fs.core.progress import say
    from birdnet_fs.motifs.extraction import extract_motifs
    from birdnet_fs.motifs.features import FeatureSettings
    from birdnet_fs.motifs.mining import MiningSettings

    check_output(output)
    root, recordings, refused = find_recordings(inputs)
    stems = table_stems(recordings, root)
    places = {path: (path.parent.relative_to(root) / stems[path]).as_posix() for path in recordings}
    features = FeatureSettings(feature, cens_sr, str(encoder.absolute()) if encoder else "", card)
    ledger = extract_motifs(
        places,
        root,
        output,
        MiningSettings(features, mp_window, louder_half, max_distance),
        refused=refused,
        sample_k=sample_k,
        seed=seed,
        workers=workers,
    )
    counts = ledger.counts()
    if counts["partial"] or counts["quarantined"]:
        say(ledger.summary())
    print(f"{counts['ok']} ok, {counts['partial']} partial, {counts['quarantined']} without a motif; {output}")
    if not counts["ok"] + counts["partial"]:
        raise typer.Exit(1)
