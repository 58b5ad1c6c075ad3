"""`birdnet-fs calibrate`: calibrated probabilities, and thresholds for a wanted precision."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import check_output
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say

if TYPE_CHECKING:
    from birdnet_fs import schema
    from birdnet_fs.inference.calibration.stored import Calibration


@locked("output")
def calibrate(
    model: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder, ensemble, or .tflite or .onnx file with its .json.")
    ],
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[LABELED]",
            help="Labeled recordings that RUN was not trained on: folder or table; default: its validation clips.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings for reading LABELED, as data.where=split=val."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the calibrated copy of RUN; required.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="platt (slope and offset of each class), temperature (slope), or isotonic (steps)."),
    ] = "platt",
    precision: Annotated[
        str, typer.Option(help="Precisions that thresholds are chosen for, separated by commas.")
    ] = "0.7,0.8,0.9,0.95",
    confidence: Annotated[
        float, typer.Option(help="With which a precision has to be shown on LABELED, from 0.5 to below 1.")
    ] = 0.8,
    post: Annotated[
        str, typer.Option(help="Post-processing of the scores that thresholds are for, as analyze --post.")
    ] = "",
    noise_s: Annotated[
        float, typer.Option("--noise_s", help="Seconds of synthetic rain, wind, engines, hiss and insects, each.")
    ] = 180.0,
    background: Annotated[
        Path | None, typer.Option(help="Recordings without any of the classes, whose false alarms are counted.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of folds, noise and bootstrap.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads of the model; 0 = default of the runtime.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is in OUTPUT.")] = False,
) -> None:
    """Calibrate RUN on labeled recordings, and choose thresholds for wanted precisions.

    OUTPUT is a copy of RUN whose scores are calibrated probabilities, with calibration.json, thresholds.csv and
    calibration.html; `analyze --precision 0.9` uses its thresholds. A class for which a precision cannot be shown gets
    no threshold, and the page gives the reason.
    """
    from birdnet_fs.reports.calibration.copies import check_copy

    if output is None:
        raise UserError("The output folder is missing; add -o FOLDER for the calibrated copy.")
    precisions = _precisions(precision)
    _check(model, source, settings or [], method, post, noise_s, background, threads, precisions, confidence)
    check_output(output)
    check_copy(model, output, overwrite=overwrite)
    from birdnet_fs.inference.open import open_engine
    from birdnet_fs.reports.calibration.calibrate import CalibrationOptions
    from birdnet_fs.reports.calibration.calibrate import calibrate as run
    from birdnet_fs.reports.calibration.copies import write_copy
    from birdnet_fs.reports.calibration.labeled_scores import labeled_scores, validation_scores
    from birdnet_fs.reports.calibration.page import SHOWN_PRECISION, write_page

    engine, experiment = open_engine(model, threads=threads), _experiment(model)
    if source is None:
        scores = validation_scores(engine, model)
    else:
        from birdnet_fs.schema import Data

        data = experiment.data if experiment else Data()
        scores = labeled_scores(engine, model, source, data, settings or [])
    options = CalibrationOptions(method, precisions, confidence, post, noise_s, background, seed)
    found = run(engine, scores, options)
    title = experiment.name if experiment else model.stem
    written = write_copy(model, output, found, lambda path: write_page(path, found, title=title, experiment=experiment))
    for line in _lines(found):
        print(line)
    usual = min(precisions, key=lambda each: abs(each - SHOWN_PRECISION))
    say(f"next: birdnet-fs analyze {written} RECORDINGS -o TABLES --precision {usual:g}")


def _precisions(text: str) -> tuple[float, ...]:
    try:
        return tuple(dict.fromkeys(float(each) for each in text.split(",")))
    except ValueError:
        raise UserError(f"--precision must be numbers separated by commas, as 0.8,0.9. Received: {text!r}") from None


def _check(
    model: Path,
    source: Path | None,
    settings: list[str],
    method: str,
    post: str,
    noise_s: float,
    background: Path | None,
    threads: int,
    precisions: tuple[float, ...],
    confidence: float,
) -> None:
    """Check the arguments before the model is loaded."""
    from birdnet_fs.analysis.calibration.thresholds import check_precisions
    from birdnet_fs.analysis.postprocessing.chain import parse_chain
    from birdnet_fs.cli.checks import check_data_settings, check_exists, check_numbers
    from birdnet_fs.inference.calibration.maps import check_method
    from birdnet_fs.inference.describe import describe_model
    from birdnet_fs.reports.labeled import guess_data
    from birdnet_fs.schema import Data

    check_method(method)
    check_precisions(precisions, confidence)
    check_numbers(noise_s=(noise_s, 0, 86_400), threads=(threads, 0, 1024))
    check_exists(**{"--background": background})
    check_data_settings(settings)
    parse_chain(post)
    if source is None and settings:
        raise UserError(f"Settings are for reading LABELED; give LABELED too. Received: {settings[0]!r}")
    if source is not None:
        guess_data(source, Data())
    describe_model(model)


def _experiment(model: Path) -> "schema.Experiment | None":
    from birdnet_fs.runs.ensemble import is_ensemble, load_ensemble
    from birdnet_fs.runs.run import load_run

    if not model.is_dir():
        return None
    return (load_ensemble(model).members[0] if is_ensemble(model) else load_run(model)).experiment


def _lines(found: "Calibration") -> list[str]:
    """Errors before and after, and for each precision the classes with a threshold and the false alarms."""
    before, after = (found.about[when]["errors"]["all"] for when in ("before", "after"))
    lines = [
        f"ECE {_error(before)} before, {_error(after)} after, on recordings that the calibration was not fitted to",
        "",
        f"{'precision':>9} {'thresholds':>11} {'recall':>7}  false alarms per hour",
    ]
    for precision, classes in found.thresholds.items():
        given = [each for each in classes if each.threshold is not None]
        recalls = [each.recall for each in given if each.recall is not None]
        recall = f"{sum(recalls) / len(recalls):7.2f}" if recalls else "      -"
        alarms: dict[str, Any] = found.about["false_alarms"][f"{precision:g}"]
        rates = ", ".join(f"{kind} {row['per_hour']:.1f}" for kind, row in alarms.items()) or "-"
        lines.append(f"{precision:9g} {f'{len(given)} of {len(classes)}':>11} {recall}  {rates}")
    return lines


def _error(row: dict[str, Any]) -> str:
    if row["ece"] is None:
        return "-"
    interval = "" if row["ece_ci"][0] is None else f" ({row['ece_ci'][0]:.1%} to {row['ece_ci'][1]:.1%})"
    return f"{row['ece']:.1%}{interval}"
