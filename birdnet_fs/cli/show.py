"""`birdnet-fs show`: an HTML page with examples of the augmentation of an experiment."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.cli.completion import ConfiguredExperiment, setting_words
from birdnet_fs.core.errors import UserError, nearest

SUBJECTS = ("augment",)


def show(
    subject: Annotated[str, typer.Argument(metavar="augment", help="Subject of the page.")],
    experiment: ConfiguredExperiment,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Settings, as augmentation.pitch.p=1.", autocompletion=setting_words
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="HTML file; default NAME_augment.html.")] = None,
    clips: Annotated[int, typer.Option(help="Number of training clips.")] = 6,
    n_draws: Annotated[int, typer.Option("--n_draws", help="Number of random draws per clip.")] = 4,
) -> None:
    """Show augmented training clips: spectrograms before and after, with a description of the random draws.

    The draws equal those of a training with the same settings, so that settings can be tried with KEY=VALUE before
    training.
    """
    from birdnet_fs.cli.checks import check_experiment, check_file_output, check_numbers
    from birdnet_fs.cli.experiment import load_experiment
    from birdnet_fs.core.progress import say

    if subject not in SUBJECTS:
        raise UserError(
            f"The subject must be one of {', '.join(SUBJECTS)}.{nearest(subject, SUBJECTS)} Received: {subject!r}"
        )
    check_numbers(clips=(clips, 1, 10_000), n_draws=(n_draws, 1, 10_000))
    chosen = load_experiment(experiment, settings or [])
    path = output or Path(f"{chosen.name}_augment.html")
    check_file_output(path)
    check_experiment(chosen)
    from birdnet_fs.reports.augment import report_on_augmentation

    report_on_augmentation(chosen, path, n_clips=clips, n_draws=n_draws)
    say(f"open {path}")
