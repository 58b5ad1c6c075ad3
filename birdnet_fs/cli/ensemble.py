"""`birdnet-fs ensemble`: combine several runs in one folder that is used like a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output, refuse_link
from birdnet_fs.core.lock import folder_lock
from birdnet_fs.core.progress import say

if TYPE_CHECKING:
    from birdnet_fs.runs.ensemble import Ensemble

FOLDER = "ensemble"  # name of the folder inside the folder of `cv`


def ensemble(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or a folder of `cv` for all its folds.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Output folder; default for one folder of `cv`: CVFOLDER/ensemble."),
    ] = None,
    combine: Annotated[str, typer.Option(help="Combination of the probabilities: mean, power, min or rank.")] = "mean",
    power: Annotated[float, typer.Option(help="Exponent k of the combination power.")] = 2.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an ensemble with other members or settings.")
    ] = False,
) -> None:
    """Copy runs into one folder that `analyze` and `evaluate` accept like a run.

    All members must have the same classes; networks, front-ends, sample rates and the order of the classes may differ.
    mean: mean probability. power: mean of p ** k, which gives confident members more weight. rank: mean rank of a score
    among the scores of the member's own held-out clips (scores.csv), for members with differently calibrated
    probabilities; such scores are ranks in 0..1, so --min_conf 0.99 selects scores above 99 % of those clips.
    """
    from birdnet_fs.runs.ensemble import check_combination

    check_combination(combine, power)
    folders = [folder for given in runs for folder in members_of(given)]
    if output is None:
        if len(runs) != 1:
            raise UserError("The output folder is missing; add -o FOLDER.")
        output = runs[0] / FOLDER
        refuse_link(output, runs[0], "give another folder with -o")
    check_output(output)
    with folder_lock(output):
        made = make_ensemble(folders, output, combine=combine, power=power, overwrite=overwrite)
    print(made.about)
    say(f"ensemble: {output}; use it as a run: birdnet-fs analyze {output} RECORDINGS -o TABLES")


def members_of(given: Path) -> list[Path]:
    """List the run folders of an argument of `ensemble`.

    Args:
        given: A run folder, or a folder of `cv`.

    Returns:
        The folder itself, or the folds listed in its cv.json.

    Raises:
        UserError: The folder holds folds but no cv.json.
    """
    from birdnet_fs.reports.evaluate import stored_json
    from birdnet_fs.reports.out_of_fold import CV, result_place
    from birdnet_fs.runs.run import CONFIG

    table = stored_json(given / CV)
    if table and not (given / CONFIG).is_file():
        return [given / result_place(row) for row in table.get("folds", [])]
    if any(given.glob("fold[0-9]*")) or any(given.glob("seed*/fold[0-9]*")):
        raise UserError(
            f"{given} holds folds but no {CV}; combine them first with the command `birdnet-fs cv` of the folds, "
            "without --fold."
        )
    return [given]


def make_ensemble(
    folders: Sequence[Path], output: Path, *, combine: str, power: float = 2.0, overwrite: bool = False
) -> "Ensemble":
    """Write an ensemble of run folders.

    Args:
        folders: Run folders of the members, each given once.
        output: Folder of the ensemble.
        combine: "mean", "power", "min" or "rank".
        power: Exponent of "power", above 0. Default: 2.
        overwrite: Replace an ensemble with other members or settings.

    Returns:
        The ensemble.

    Raises:
        UserError: A member is given twice or does not fit the others, or "rank" is chosen and a run has no scores of
            held-out clips.
    """
    from birdnet_fs.data.score_table import read_scores
    from birdnet_fs.inference.ensemble import position_table
    from birdnet_fs.reports.stored_scores import SCORES, has_scores
    from birdnet_fs.runs.ensemble import check_members, class_columns, save_ensemble
    from birdnet_fs.runs.run import load_run

    runs = [load_run(folder) for folder in folders]
    twice = next(
        (folder for i, folder in enumerate(folders) if folder.resolve() in map(Path.resolve, folders[:i])), None
    )
    if twice is not None:
        raise UserError(f"The members of an ensemble must differ; {twice} was given twice.")
    check_members(runs, combine, power)
    tables = []
    for run in runs if combine == "rank" else ():
        if not (run.path / SCORES).is_file():
            raise UserError(
                f"Ranks need the scores of held-out clips, and {run.path} has no {SCORES}; run "
                f"`birdnet-fs evaluate {run.path}` first, or use --combine mean."
            )
        if not has_scores(run.path):
            raise UserError(
                f"{run.path / SCORES} is not known to be the scores of the weights beside it; run `birdnet-fs evaluate "
                f"{run.path}` first, or use --combine mean."
            )
        found = read_scores(run.path / SCORES)
        if found.classes != run.classes:
            raise UserError(
                f"{run.path / SCORES} has other classes than the run; delete the file and evaluate the run again."
            )
        tables.append(position_table(found.scores[:, class_columns(run, runs[0])]))
    return save_ensemble(output, runs, how=combine, power=power, positions=tables, overwrite=overwrite)
