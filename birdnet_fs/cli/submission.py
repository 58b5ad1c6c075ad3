"""`birdnet-fs submission`: a submission to a BirdCLEF competition."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from birdnet_fs.inference.engine import Engine


def submission(
    model: Annotated[Path, typer.Argument(help="Run folder, ensemble, or .tflite or .onnx file with its .json.")],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Folder of the competition: sample_submission.csv (2022: test.csv), test_soundscapes, taxonomy.csv.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Submission to write, as submission.csv.")],
    competition: Annotated[
        str, typer.Option(help="birdclef2025, birdclef2024 (probabilities) or birdclef2022 (True and False).")
    ],
    audio: Annotated[
        Path | None, typer.Option(help="Folder of the recordings; default: test_soundscapes of DATA.")
    ] = None,
    rows: Annotated[
        str,
        typer.Option(
            help="sample: the rows of the table. recordings: those of the recordings, one every 5 s. auto: those of "
            "the table and of recordings that it does not name; a table that names none that is there is a stub."
        ),
    ] = "auto",
    taxonomy: Annotated[
        Path | None,
        typer.Option(help="Table that names the labels; default: taxonomy.csv or the train table of DATA."),
    ] = None,
    hop: Annotated[
        float, typer.Option(help="Seconds from one window to the next; 0 = 5 s, or shorter for a shorter window.")
    ] = 0.0,
    threshold: Annotated[float, typer.Option(help="Lowest probability of a True (2022), 0..1.")] = 0.5,
    time_budget: Annotated[
        str, typer.Option("--time_budget", help="Time in which the file must be complete, as 90min; default: no limit.")
    ] = "",
    fallback: Annotated[
        str,
        typer.Option(
            help="What to do when the budget is too short: hop (a longer hop), models (fewer members of the ensemble), "
            "or none (a warning)."
        ),
    ] = "none",
    batch_size: Annotated[int, typer.Option("--batch_size", help="Windows per batch.")] = 32,
    workers: Annotated[
        int,
        typer.Option(help="Threads that decode and score; 0 = as many as use all cores. Scores do not depend on it."),
    ] = 0,
    threads: Annotated[
        int, typer.Option(help="CPU threads of the model in each worker; 0 = the runtime decides, and one worker.")
    ] = 1,
) -> None:
    """Score the windows that a competition asks for. A row is never left out, whatever its recording is like.

    A row is the 5 s that end at its stamp. Rows without scores get the mean of each class over the scored rows (False
    in 2022). Classes are matched by label, scientific or common name. OUTPUT.ledger.csv lists every recording. The exit
    status is 1 when there are recordings and none could be scored.
    """
    from birdnet_fs.analysis.competition.budget import TimeBudget, parse_time
    from birdnet_fs.analysis.competition.class_names import find_taxonomy, match_classes, read_taxonomy
    from birdnet_fs.analysis.competition.folder import check_competition, read_competition
    from birdnet_fs.analysis.competition.submit import FALLBACKS, submit
    from birdnet_fs.cli.checks import check_exists, check_file_output, check_numbers, check_windows
    from birdnet_fs.core.errors import UserError, nearest
    from birdnet_fs.core.installation.resources import n_cpus
    from birdnet_fs.core.progress import say
    from birdnet_fs.core.text import escaped
    from birdnet_fs.runs.ensemble import is_ensemble, load_ensemble

    budget = TimeBudget(parse_time(time_budget))
    asked = check_competition(competition)
    if fallback not in FALLBACKS:
        raise UserError(
            f"--fallback must be one of {', '.join(FALLBACKS)}.{nearest(fallback, FALLBACKS)} Received: {fallback!r}"
        )
    check_file_output(output)
    check_numbers(threshold=(threshold, 0, 1), hop=(hop, 0, 3600), workers=(workers, 0, 1024))
    check_exists(DATA=data, audio=audio, taxonomy=taxonomy)
    described = check_windows(model, overlap=0, batch_size=batch_size, threads=threads)
    if hop > described.segment_s:
        raise UserError(f"--hop must be at most the model's window of {described.segment_s:g} s. Received: {hop:g}")
    n_members = len(load_ensemble(model).members) if is_ensemble(model) else 1
    test = read_competition(data, asked, audio=audio, rows=rows)
    table = taxonomy or find_taxonomy(data)
    match = match_classes(test.rows.classes, described.classes, read_taxonomy(table) if table else {})
    for line in (*test.notes, match.line):
        say(line)

    def opened(n: int) -> "Engine":
        from birdnet_fs.inference.open import open_engine

        return open_engine(model, threads=threads, n_members=n)

    report, ledger = submit(
        opened,
        test,
        match,
        output,
        n_members=n_members,
        hop_s=hop,
        threshold=threshold,
        batch_size=batch_size,
        n_workers=workers or (max(1, n_cpus() // threads) if threads else 1),
        budget=budget,
        fallback=fallback,
    )
    ledger.write(output.with_suffix(".ledger.csv"))
    for line in report.lines:
        say(line)
    print(
        f"{report.n_rows} rows, {report.n_rows - report.n_without_scores} with scores; {escaped(output)} "
        f"({budget.spent_s:.0f} s)"
    )
    if test.recordings.paths and report.n_without_scores == report.n_rows:
        raise typer.Exit(1)
