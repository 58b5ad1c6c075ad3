"""`birdnet-fs prior`: weights of classes by hour or site, from the training clips of a run."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.errors import UserError, nearest

KINDS = ("hour", "site")


def prior(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    by: Annotated[str, typer.Option(help="hour (of the clock times of recordings) or site (a column of the table).")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="CSV of weights to write; required.")] = None,
    column: Annotated[str, typer.Option(help="Column of the run's table of labels that holds the site.")] = "site",
    strength: Annotated[
        float, typer.Option(help="Recordings that the rate of all hours or sites counts for, 0.1 to 10000.")
    ] = 5.0,
) -> None:
    """Fit the prior odds of the classes of RUN by hour of the day or by site, to its training clips.

    The table is for `analyze --post hours:table=TABLE` or `sites:table=TABLE`. It is refused where the hour or site of
    no training clip is known. Whether it helps has to be measured on held-out recordings.
    """
    from birdnet_fs.cli.checks import check_exists, check_file_output, check_numbers
    from birdnet_fs.core.csv_files import csv_writer
    from birdnet_fs.core.files import atomic_path
    from birdnet_fs.core.progress import say
    from birdnet_fs.core.text import count, mark_formula

    if by not in KINDS:
        raise UserError(f"--by must be {' or '.join(KINDS)}.{nearest(by, KINDS)} Received: {by!r}")
    if output is None:
        raise UserError("The table to write is missing; add -o TABLE.csv.")
    check_exists(RUN=run)
    check_file_output(output)
    check_numbers(strength=(strength, 0.1, 10_000))
    from birdnet_fs.analysis.postprocessing.priors import fit_prior, training_keys
    from birdnet_fs.runs.run import load_run

    loaded = load_run(run)
    clips, keys = training_keys(loaded, by, column)
    rows = fit_prior(clips, keys, loaded.classes, strength=strength)
    with atomic_path(output) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv_writer(file)
        writer.writerow(("class", by, "weight"))
        writer.writerows((mark_formula(each.name), mark_formula(each.key), f"{each.weight:.9g}") for each in rows)
    n_classes = count(len(loaded.classes), "class", "classes")
    print(f"{output}: {count(len(set(keys)), by)}, {n_classes}, {count(len(clips), 'training clip')}")
    say(f"next: birdnet-fs analyze {run} RECORDINGS -o TABLES --post {by}s:table={output}")
