"""`birdnet-fs compare`: evaluations side by side, with the gap between splits."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.errors import UserError


def compare(
    evaluations: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=FOLDER...",
            help="Folders with metrics.json (of evaluate, train or cv), as random=cv/random site=cv/site.",
        ),
    ],
) -> None:
    """Show evaluations side by side, and the gap between the most flattering and the hardest one.

    The same experiment, cross-validated with other groups (data.group_column), shows how much of a score comes from
    known recordings, individuals or sites.
    """
    folders: dict[str, Path] = {}
    for given in evaluations:
        name, line, folder = given.partition("=")
        if not name or not line or not folder:
            raise UserError(f"Evaluations must be NAME=FOLDER, as site=cv/site. Received: {given!r}")
        if name in folders:
            raise UserError(f"Names of evaluations must be different. Received: {name!r} twice")
        folders[name] = Path(folder)
    from birdnet_fs.cli.checks import check_exists

    check_exists(**folders)
    from birdnet_fs.reports.compare import comparison_lines, read_evaluations

    for line in comparison_lines(read_evaluations(folders)):
        print(line)
