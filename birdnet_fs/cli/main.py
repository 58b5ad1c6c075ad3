"""The command `birdnet-fs`: its verbs in the order of the work, errors without tracebacks.

Verb files import nothing heavy at their top, so that `--help` answers in under a second.
"""

import os
import sys

import typer

from birdnet_fs import __version__
from birdnet_fs.cli.analyze import analyze
from birdnet_fs.cli.cv import cv
from birdnet_fs.cli.evaluate import evaluate
from birdnet_fs.cli.export import export
from birdnet_fs.cli.init import init
from birdnet_fs.cli.manifest import manifest
from birdnet_fs.cli.models import models
from birdnet_fs.cli.quickstart import quickstart
from birdnet_fs.cli.train import train
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.progress import say

app = typer.Typer(
    help="Recordings of birds and other animals in, classifiers people can trust and ship out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for verb in (quickstart, init, manifest, models, train, cv, evaluate, analyze, export):
    app.command()(verb)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print it.")) -> None:
    pass


def main() -> None:
    """Run the command line; exit 2 on a user's fault (one sentence), 130 on an interrupt."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        app()
    except UserError as error:
        say(f"birdnet-fs: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        say("birdnet-fs: interrupted; what was finished is kept, the same command goes on from there.")
        sys.exit(130)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        say(f"birdnet-fs: {error.strerror or error}: {error.filename or ''}".rstrip(": "))
        sys.exit(2)


if __name__ == "__main__":
    main()
