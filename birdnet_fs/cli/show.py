"""`birdnet-fs show`: what an experiment does to its recordings, as a page."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.errors import UserError, nearest

SUBJECTS = ("augment",)


def show(
    subject: Annotated[str, typer.Argument(metavar="augment", help="What to show.")],
    experiment: Annotated[str, typer.Argument(metavar="CONFIG:NAME", help="As config.py:birds10.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As augmentation.pitch.p=1.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="HTML file; default NAME_augment.html.")] = None,
    clips: Annotated[int, typer.Option(help="Training clips to show.")] = 6,
    n_draws: Annotated[int, typer.Option("--n_draws", help="Random draws of each clip.")] = 4,
) -> None:
    """Show what augmentation does to training clips: spectrograms before and after, and in words what was drawn.

    They are drawn as training with the same settings draws them, so that a setting can be tried with KEY=VALUE before
    anything is trained.
    """
    from birdnet_fs.cli.experiment import load
    from birdnet_fs.core.progress import say

    if subject not in SUBJECTS:
        raise UserError(f"`show` has {', '.join(SUBJECTS)}.{nearest(subject, SUBJECTS)} Received: {subject!r}")
    chosen = load(experiment, settings or [])
    from birdnet_fs.reports.augment import report_on_augmentation

    path = output or Path(f"{chosen.name}_augment.html")
    report_on_augmentation(chosen, path, n_clips=clips, n_draws=n_draws)
    say(f"open {path}")
