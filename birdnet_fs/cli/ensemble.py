"""`birdnet-fs ensemble`: several runs become one folder that scores as one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say

if TYPE_CHECKING:
    from birdnet_fs.runs.ensemble import Ensemble

FOLDER = "ensemble"  # in the folder of `cv`


def ensemble(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or the folder of `cv` for all its folds.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder; of one `cv` folder CVFOLDER/ensemble by default.")
    ] = None,
    combine: Annotated[str, typer.Option(help="mean, power or rank of the members' probabilities.")] = "mean",
    power: Annotated[float, typer.Option(help="With power: k of the mean of p ** k.")] = 2.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an ensemble of other members or settings.")
    ] = False,
) -> None:
    """Copy runs into one folder that `analyze` and `evaluate` take like a run.

    Networks, front-ends, sample rates and the order of the classes may differ, the classes may not. mean: of the
    probabilities. power: of p ** k, so that surer members count more. rank: of the positions of the scores among those
    that each member gave to the clips it held out (scores.csv), for members whose probabilities mean different things;
    such scores rank clips and are no probabilities, so --min_conf 0.99 means above 99 % of those clips.
    """
    folders = [folder for given in runs for folder in members_of(given)]
    if output is None:
        if len(runs) != 1:
            raise UserError("Where to write is not given; add -o FOLDER.")
        output = runs[0] / FOLDER
    made = make(folders, output, combine=combine, power=power, overwrite=overwrite)
    print(made.about)
    say(f"ensemble: {output}; use it as a run: birdnet-fs analyze {output} RECORDINGS -o TABLES")


def members_of(given: Path) -> list[Path]:
    """The run folders that are meant: the folder itself, or the folds that the cv.json in it is about.

    Raises:
        UserError: It holds folds and no cv.json.
    """
    from birdnet_fs.reports.evaluate import stored_json
    from birdnet_fs.reports.out_of_fold import CV, result_place
    from birdnet_fs.runs.run import CONFIG

    table = stored_json(given / CV)
    if table and not (given / CONFIG).is_file():
        return [given / result_place(row) for row in table.get("folds", [])]
    if any(given.glob("fold[0-9]*")) or any(given.glob("seed*/fold[0-9]*")):
        raise UserError(
            f"{given} holds folds and no {CV}; collect them first: birdnet-fs cv, as they were trained, without --fold."
        )
    return [given]


def make(
    folders: Sequence[Path], output: Path, *, combine: str, power: float = 2.0, overwrite: bool = False
) -> "Ensemble":
    """Write the ensemble of some run folders; arguments and errors as `save_ensemble`.

    Raises:
        UserError: Ranks are wanted, and a run has no scores of clips it held out.
    """
    from birdnet_fs.data.score_table import read_scores
    from birdnet_fs.inference.ensemble import position_table
    from birdnet_fs.reports.evaluate import SCORES
    from birdnet_fs.runs.ensemble import check_members, class_columns, save_ensemble
    from birdnet_fs.runs.run import load_run

    twice = next(
        (folder for i, folder in enumerate(folders) if folder.resolve() in map(Path.resolve, folders[:i])), None
    )
    if twice is not None:
        raise UserError(f"A member of an ensemble counts once; {twice} was given twice.")
    runs = [load_run(folder) for folder in folders]
    check_members(runs, combine, power)
    tables = []
    for run in runs if combine == "rank" else ():
        if not (run.path / SCORES).is_file():
            raise UserError(
                f"Ranks need the scores a run gave to clips it held out, and {run.path} has no {SCORES}; run "
                f"`birdnet-fs evaluate {run.path}` first, or use --combine mean."
            )
        found = read_scores(run.path / SCORES)
        if found.classes != run.classes:
            raise UserError(f"{run.path / SCORES} has other classes than the run; delete it and evaluate again.")
        tables.append(position_table(found.scores[:, class_columns(run, runs[0])]))
    return save_ensemble(output, runs, how=combine, power=power, positions=tables, overwrite=overwrite)
