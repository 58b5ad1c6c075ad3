"""`birdnet-fs fewshot-detect`: detect the other events of a class in a recording, from its first few."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.errors import UserError


def fewshot_detect(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="Recordings with timed events of new classes: a folder with a CSV per recording as in the DCASE task, "
            "or any table with times.",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings for reading INPUT, as data.where=set=bf_bird0."),
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="CSV file; its ledger and scores are written beside it.")
    ] = Path("detections.csv"),
    shots: Annotated[int, typer.Option(help="First events of a class in a recording that are its examples.")] = 5,
    threshold: Annotated[float, typer.Option(help="Lowest probability of a detection, 0 to 1.")] = 0.5,
    rounds: Annotated[int, typer.Option(help="Refits with confident windows of the recording.")] = 1,
    sample_rate: Annotated[int, typer.Option(help="Rate in Hz at which recordings are read.")] = 32_000,
    fmin: Annotated[float, typer.Option(help="Lowest frequency in Hz.")] = 200.0,
    fmax: Annotated[float, typer.Option(help="Highest frequency in Hz, up to half of the rate.")] = 15_000.0,
    seed: Annotated[int, typer.Option(help="Random seed of the negative examples.")] = 0,
) -> None:
    """Detect all events of a class in a recording from its first five, without a trained model.

    A small classifier is fitted to each recording and class in about a second: positives are the examples, negatives
    come from the time between them and from windows that resemble none. Detections begin after the last example and
    have the mean length of the examples. Where more events than the examples are labeled, they are compared with the
    detections as in the DCASE task: event-based F-measure, intersection over union above .3.
    """
    from birdnet_fs.cli.checks import check_data_settings, check_file_output
    from birdnet_fs.core.progress import say
    from birdnet_fs.core.settings import override
    from birdnet_fs.fewshot.detection.detector import DetectionSettings
    from birdnet_fs.schema import Data, Experiment

    check_file_output(output)
    check_data_settings(settings or [])
    if not source.exists():
        raise UserError(f"INPUT must be a folder of labeled recordings or a table; {source} does not exist.")
    chosen = DetectionSettings(shots, sample_rate, fmin, fmax, threshold, rounds, seed)
    asked = Data(
        root=str(source if source.is_dir() else source.parent),
        table="" if source.is_dir() else source.name,
        multi_label=True,
    )
    data = override(Experiment(data=asked), settings or []).data
    from birdnet_fs.fewshot.detection.batch import detect_in_recordings
    from birdnet_fs.metrics.event_f1 import EventCounts, event_scores

    found = detect_in_recordings(data, output, chosen)
    for note in found.notes:
        say(note)
    say(found.ledger.summary())
    if counts := found.counts():
        print(f"{'class':30} precision recall     F events")
        for label, each in (*counts.items(), ("all", sum(counts.values(), EventCounts()))):
            s, n = event_scores(each), each.true_positive + each.false_negative
            print(f"{label[:30]:30} {s.precision:9.3f} {s.recall:6.3f} {s.f_measure:5.3f} {n:6}")
    print(output)
