"""`birdnet-fs fewshot-eval`: accuracy of a run on new classes, from a few clips of each."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.errors import UserError, nearest

PADDING_MODES = ("silence", "repeat")  # as inference.embed, whose import takes seconds


def fewshot_eval(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A trained run, or the file of an encoder (BirdNET, Perch).")
    ],
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Labeled clips or timed events of new classes: folder or table.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings for reading INPUT, as data.where=set=birds10; model.encoder_card=NAME for an encoder.",
        ),
    ] = None,
    ways: Annotated[int, typer.Option(help="Classes per episode.")] = 5,
    shots: Annotated[str, typer.Option(help="Support clips per class, separated by commas, as 1,5.")] = "1,5",
    queries: Annotated[int, typer.Option(help="Query clips per class.")] = 5,
    episodes: Annotated[int, typer.Option(help="Number of episodes for each number of shots.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Random seed of the episodes.")] = 0,
    known: Annotated[
        bool, typer.Option("--known", help="Include classes of the run, from recordings that it was not trained on.")
    ] = False,
    fill: Annotated[
        str, typer.Option(help="Padding of clips shorter than the input of the run: silence or repeat.")
    ] = ("silence"),
    correlation: Annotated[
        bool,
        typer.Option(
            "--correlation", help="Also evaluate spectrogram cross-correlation, alone and combined with cosines."
        ),
    ] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="JSON file for the results.")] = None,
) -> None:
    """Measure the accuracy over many episodes of new classes, with 95 % intervals.

    A clip is a recording or, where INPUT has times, an event in a recording; rows with no class or with several are
    skipped, and so are classes with fewer clips than an episode needs. Support and query clips are drawn from different
    recordings ("across") and, in a separate evaluation, from the same recording ("within"), where the data allows it.
    All methods classify the same queries.
    """
    from birdnet_fs import schema
    from birdnet_fs.cli.checks import check_file_output, check_numbers
    from birdnet_fs.cli.encoder_base import base_run, check_base, divide_settings
    from birdnet_fs.core.files import write_json
    from birdnet_fs.core.progress import say
    from birdnet_fs.core.settings import override
    from birdnet_fs.data.manifest import read_manifest

    try:
        wanted = [int(shot) for shot in shots.split(",")]
    except ValueError:
        raise UserError(f"--shots must be whole numbers separated by commas, as 1,5. Received: {shots!r}") from None
    check_numbers(
        ways=(ways, 2, 10_000),
        shots=(min(wanted), 1, 10_000),
        queries=(queries, 1, 10_000),
        episodes=(episodes, 1, 10_000_000),
        seed=(seed, 0, 2**32 - 1),
    )
    if fill not in PADDING_MODES:
        raise UserError(
            f"--fill must be one of {', '.join(PADDING_MODES)}.{nearest(fill, PADDING_MODES)} Received: {fill!r}"
        )
    check_file_output(output)
    if not source.exists():
        raise UserError(f"INPUT must be a folder of labeled clips or a table; {source} does not exist.")
    card, settings = divide_settings(run, settings or [])
    check_base(run, card)
    asked = schema.Data(
        root=str(source if source.is_dir() else source.parent), table="" if source.is_dir() else source.name
    )
    experiment = override(schema.Experiment(data=asked), settings)
    if dataclasses.replace(experiment, data=asked) != schema.Experiment(data=asked):
        raise UserError(f"Settings of this command must be data.KEY=VALUE. Received: {' '.join(settings)}")
    manifest = read_manifest(experiment.data)
    clips = [clip for clip in manifest.clips if len(clip.labels) == 1]
    left = len(manifest.clips) - len(clips)
    if not clips:
        raise UserError(f"None of the {left} rows of {source} has exactly one class; set data.label_column.")
    if left:
        say(f"{left} of {len(manifest.clips)} rows have no class or several, and are skipped.")
    from birdnet_fs.fewshot.few_shot_evaluation import evaluate_few_shot, result_to_json

    with base_run(run, card, clips) as opened:
        found = evaluate_few_shot(
            opened,
            clips,
            n_way=ways,
            shots=wanted,
            n_query=queries,
            n_episodes=episodes,
            seed=seed,
            known=known,
            fill=fill,
            correlation=correlation,
        )
    for message in found.messages:
        say(message)
    print(f"{'recordings':10} {'episode':>14} {'method':20} accuracy (95 % interval of {episodes:,} episodes)")
    for r in found.results:
        kind = f"{r.n_way}-way {r.n_shot}-shot"
        print(f"{r.recordings:10} {kind:>14} {r.method:20} {r.accuracy:.4f} ({r.low:.4f} to {r.high:.4f})")
    if output is not None:
        rows = [result_to_json(r) for r in found.results]
        write_json(output, {"run": str(run), "results": rows, "messages": list(found.messages)})
