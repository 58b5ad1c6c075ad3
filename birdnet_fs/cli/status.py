"""`birdnet-fs status`: what is done, running, failed and missing in a folder."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.cli.checks import check_exists

MOST = 40  # rows that are printed


def status(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Output folder of cluster, analyze, embed, train, cv or tune; also one that they still write.",
        ),
    ],
) -> None:
    """Print one table of what is done, running, failed and missing in a folder.

    Nothing is changed. The exit status is 0 when everything is done, 3 while something runs or waits in a queue, and 1
    when something is missing, stopped or failed and nothing works on it. Recordings that cannot be read are done; they
    are listed with their reasons.
    """
    if not folder.with_name(f"{folder.name}.shards").is_dir():
        check_exists(folder=folder)
    from birdnet_fs.cluster.status import exit_status, read_status
    from birdnet_fs.core.text import escaped

    kind, items = read_status(folder)
    counts: dict[str, int] = {}
    for item in items:
        counts[item.state] = counts.get(item.state, 0) + item.n
    print(f"{escaped(folder)}: {kind}, {', '.join(f'{n} {state}' for state, n in counts.items())}")
    unusual = [item for item in items if item.state != "done"]
    shown = unusual[:MOST] + [item for item in items if item.state == "done"][: max(0, MOST - len(unusual))]
    width = max((len(item.name) for item in shown), default=0)
    for item in sorted(shown, key=items.index):
        print(f"  {escaped(item.name):{width}s}  {item.state:11s}  {escaped(item.detail)}".rstrip())
    if len(items) > len(shown):
        print(f"  ... and {len(items) - len(shown)} more")
    if code := exit_status(items):
        raise typer.Exit(code)
