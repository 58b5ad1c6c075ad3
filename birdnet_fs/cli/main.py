"""The command `birdnet-fs`: its verbs in the order of a typical workflow, and user errors without tracebacks.

The files of the verbs import heavy libraries inside functions only, so that `--help` takes less than a second.
"""

import io
import os
import signal
import sys
import tempfile
import traceback
from typing import TextIO, cast

import typer

from birdnet_fs import __version__
from birdnet_fs.cli.analyze import analyze
from birdnet_fs.cli.bench import bench
from birdnet_fs.cli.cache import cache
from birdnet_fs.cli.calibrate import calibrate
from birdnet_fs.cli.camtrap import camtrap
from birdnet_fs.cli.classify import classify
from birdnet_fs.cli.cluster import cluster
from birdnet_fs.cli.commands import group, line_to_type
from birdnet_fs.cli.compare import compare
from birdnet_fs.cli.cv import cv
from birdnet_fs.cli.doctor import doctor
from birdnet_fs.cli.embed import embed
from birdnet_fs.cli.encoders import encoders
from birdnet_fs.cli.enroll import enroll
from birdnet_fs.cli.ensemble import ensemble
from birdnet_fs.cli.estimate import estimate
from birdnet_fs.cli.evaluate import evaluate
from birdnet_fs.cli.export import export
from birdnet_fs.cli.fewshot_detect import fewshot_detect
from birdnet_fs.cli.fewshot_eval import fewshot_eval
from birdnet_fs.cli.init import init
from birdnet_fs.cli.kaggle_bundle import kaggle_bundle
from birdnet_fs.cli.manifest import manifest
from birdnet_fs.cli.models import models
from birdnet_fs.cli.motifs import motifs
from birdnet_fs.cli.nocall import nocall
from birdnet_fs.cli.prior import prior
from birdnet_fs.cli.pseudo_label import pseudo_label
from birdnet_fs.cli.quantize import quantize
from birdnet_fs.cli.quickstart import quickstart
from birdnet_fs.cli.sample import sample
from birdnet_fs.cli.score_submission import score_submission
from birdnet_fs.cli.search import search
from birdnet_fs.cli.segments import segments
from birdnet_fs.cli.show import show
from birdnet_fs.cli.status import status
from birdnet_fs.cli.submission import submission
from birdnet_fs.cli.train import train
from birdnet_fs.cli.tune import tune
from birdnet_fs.core import stopping
from birdnet_fs.core.distributed import group as processes
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import describe_os_error
from birdnet_fs.core.progress import EscapedOutput, say

NAME = "birdnet-fs"
DEFECT = 70  # exit status, EX_SOFTWARE of sysexits.h
DEBUG = "BIRDNET_FS_DEBUG"  # environment variable
COMPLETION = "_BIRDNET_FS_COMPLETE"  # environment variable that a shell sets to ask for the words that can follow
WITH_TORCHRUN = ("train", "cv")  # verbs that several processes can do together


app = group(
    "",
    "Train, evaluate and export classifiers of bird and other animal sounds.",
    (
        quickstart,
        init,
        manifest,
        models,
        encoders,
        show,
        train,
        tune,
        cv,
        ensemble,
        pseudo_label,
        fewshot_eval,
        fewshot_detect,
        enroll,
        quantize,
        evaluate,
        compare,
        calibrate,
        prior,
        analyze,
        segments,
        sample,
        estimate,
        camtrap,
        embed,
        search,
        cluster,
        status,
        export,
        bench,
        submission,
        score_submission,
        kaggle_bundle,
        doctor,
    ),
    groups=(cache, motifs, nocall, classify),
    wrapping=(cluster,),
)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    if processes.size() > 1 and context.invoked_subcommand not in WITH_TORCHRUN:
        raise UserError(
            f"{context.invoked_subcommand} runs in one process; start it without torchrun, which is for "
            f"{' and '.join(WITH_TORCHRUN)}."
        )


def main() -> None:
    """Run the command line.

    It exits with 2 and one sentence on a user error, and with 128 + the number of a signal that stopped it. An
    exception that is no user error is a defect: its traceback is written to a file, which the one sentence names, and
    the exit status is DEFECT. With the environment variable BIRDNET_FS_DEBUG it is printed instead.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a class name may be outside the terminal's code page
            stream.reconfigure(errors="backslashreplace")
    stopping.listen()
    if COMPLETION not in os.environ:  # shells read tabs
        sys.stdout = cast(TextIO, EscapedOutput(sys.stdout))
    try:
        processes.join()
        if not processes.is_main():
            sys.stdout = io.StringIO()
        code = app(args=sys.argv[1:] or ["--help"], prog_name=NAME, standalone_mode=False)
        stopping.stop_listening()
        processes.leave()
    except UserError as error:
        _stop(str(error), 2)
    except OSError as error:
        _stop(f"{describe_os_error(error)}.", 2)
    except MemoryError as error:
        _stop(f"there is not enough memory for this ({error or 'no size given'}); close other programs.", 2)
    except KeyboardInterrupt:  # between the lines that the library of the command line guards
        code = 130
    except Exception as error:
        if stopping.received():  # a library has turned the interruption into another error
            code = 130
        elif hasattr(error, "format_message"):
            context = getattr(error, "ctx", None)
            said = str(error.format_message()).rstrip()
            said += "" if said[-1] in ".?" else "."
            if hasattr(error, "param_type") and context and context.command.name:  # an argument is missing
                said += f" Type {line_to_type(context)}."
            _stop(f"{said} See {context.command_path if context else NAME} --help.", 2)
        else:  # not an error in the arguments but a defect of this package
            _stop(_defect(error), DEFECT)
    if code == 130:
        number = stopping.received() or signal.SIGINT
        _stop(
            f"stopped by {signal.Signals(number).name}; the same command continues the work. Finished recordings, "
            "folds and runs are kept; an unfinished training goes on from its last state.",
            128 + number,
        )
    sys.exit(code if isinstance(code, int) else 0)


def _defect(error: Exception) -> str:
    """Write the traceback of an unexpected exception to a file, and return the sentence for the user."""
    if os.environ.get(DEBUG):
        raise error
    text = "".join(traceback.format_exception(error))
    reason = (str(error).strip().splitlines() or ["no message"])[0][:300]
    sentence = (
        f"unexpected {type(error).__name__}: {reason.rstrip('.')}. This is a defect of birdnet_fs {__version__}; "
    )
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="birdnet-fs-", suffix=".txt", encoding="utf-8", errors="backslashreplace", delete=False
        ) as file:
            file.write(f"birdnet_fs {__version__}\n{sys.argv}\n{text}")
    except OSError:
        return f"{sentence}to report it, run the command again with {DEBUG}=1, which prints the full text."
    return f"{sentence}to report it, add {file.name}, which holds the full text ({DEBUG}=1 prints it)."


def _stop(message: str, status: int) -> None:
    stopping.stop_listening()
    if processes.is_main() if status > 128 else processes.first_to_fail():  # a signal stops all
        say(f"birdnet-fs: {processes.label()}{message}", from_all=True)
    processes.end_all()
    sys.exit(status)


if __name__ == "__main__":
    main()
