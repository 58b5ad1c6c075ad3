"""`birdnet-fs score-submission`: the metric of BirdCLEF 2023 to 2025 by a labeled solution."""

from pathlib import Path
from typing import Annotated

import typer


def score_submission(
    submission: Annotated[Path, typer.Argument(help="Submission: row_id and one column per class.")],
    solution: Annotated[Path, typer.Argument(help="The same rows and classes with 0 or 1.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="CSV of the AUC of each class.")] = None,
) -> None:
    """Score a submission as BirdCLEF 2023 to 2025 do: macro ROC-AUC over the classes with a positive.

    Rows and columns are matched by name. A cell that is no finite number, or a missing row or class, is refused.
    """
    from birdnet_fs.cli.checks import check_exists, check_file_output
    from birdnet_fs.core.csv_files import csv_writer
    from birdnet_fs.core.files import atomic_path
    from birdnet_fs.core.progress import say
    from birdnet_fs.core.text import escaped, mark_formula

    check_exists(SUBMISSION=submission, SOLUTION=solution)
    check_file_output(output)
    from birdnet_fs.metrics import competition

    found = competition.score_submission(submission, solution)
    if found.always_positive:
        first = escaped(found.always_positive[0])
        say(
            f"{len(found.always_positive)} classes are positive in every row, first {first}: they have no AUC, and the "
            f"competition's metric is then NaN. Mean of the others: {found.mean_of_others:.6f}"
        )
    if output:
        with atomic_path(output) as part, open(part, "w", encoding="utf-8", newline="") as file:
            writer = csv_writer(file)
            writer.writerow(["class", "auc"])
            writer.writerows([mark_formula(name), f"{value:.9g}"] for name, value in found.per_class.items())
    print(f"macro ROC-AUC {found.value:.6f} over {len(found.per_class)} classes with a positive")
