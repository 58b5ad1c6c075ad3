"""Copies of a run, an ensemble or an exported file with a calibration in them; the original is not changed."""

from collections.abc import Callable
from pathlib import Path

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.folders import atomic_folder, link_tree
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped
from birdnet_fs.inference.calibration.stored import Calibration, write_calibration
from birdnet_fs.inference.calibration.threshold_table import write_thresholds
from birdnet_fs.runs.ensemble import FILES_OF_AN_ENSEMBLE
from birdnet_fs.runs.run import (
    CALIBRATION,
    CALIBRATION_PAGE,
    CONFIG,
    ENSEMBLE,
    FILES_OF_A_RUN,
    FILES_WITH_THE_WEIGHTS,
    RESULTS,
    THRESHOLDS,
)

# files beside X.tflite or X.onnx that belong to it, of which some may be missing
COMPANIONS = (
    *("_Labels.txt", "_golden.npz", "_card.md", "_frontend.npz", "_enrolment.npz"),
    *("_sample_counts.csv", "_evaluation.csv"),
)


def check_copy(model: Path, output: Path, *, overwrite: bool = False) -> None:
    """Refuse an output folder whose content would be lost.

    Args:
        model: Run, ensemble or exported file.
        output: Folder of the copy.
        overwrite: Whether an earlier copy may be replaced. Default: False.

    Raises:
        UserError: The folder is that of the model, or holds another model, and `overwrite` is False.
    """
    own = model if model.is_dir() else model.parent
    if output.resolve() == own.resolve():
        raise UserError(f"{escaped(output)} is the folder of the model itself; give another folder with -o.")
    there = [name for name in (CONFIG, ENSEMBLE, model.name) if (output / name).exists()]
    if there and not overwrite:
        raise UserError(
            f"{escaped(output)} holds a model already ({escaped(there[0])}); give another folder with -o, or replace "
            "it with --overwrite."
        )


def write_copy(model: Path, output: Path, calibration: Calibration, write_page: Callable[[Path], None]) -> Path:
    """Write the copy, whole or not at all.

    Args:
        model: Run, ensemble or exported file.
        output: Folder of the copy.
        calibration: The calibration.
        write_page: Writes the page about the calibration to a path.

    Returns:
        The calibrated model: the folder, or the exported file in it.
    """
    if model.is_file():
        return _copy_artifact(model, output, calibration, write_page)
    kept = FILES_OF_AN_ENSEMBLE if (model / ENSEMBLE).is_file() else FILES_WITH_THE_WEIGHTS
    replaced = {*FILES_OF_A_RUN, *FILES_OF_AN_ENSEMBLE}
    with atomic_folder(output, stays=lambda name: name not in replaced) as part:
        for name in kept:
            if (model / name).exists() and name not in RESULTS:
                link_tree(model / name, part / name)
        for name in (CALIBRATION, THRESHOLDS, CALIBRATION_PAGE):
            (part / name).unlink(missing_ok=True)
        write_calibration(part, calibration)
        write_thresholds(part / THRESHOLDS, calibration)
        write_page(part / CALIBRATION_PAGE)
    return output


def _copy_artifact(model: Path, output: Path, calibration: Calibration, write_page: Callable[[Path], None]) -> Path:
    sidecar = read_json(model.with_suffix(".json"), "copy it again")
    with atomic_folder(output, stays=lambda name: True) as part:
        for name in (model.name, *(model.stem + ending for ending in COMPANIONS)):
            if (model.parent / name).is_file():
                link_tree(model.parent / name, part / name)
        write_json(part / f"{model.stem}.json", {**sidecar, "calibration": calibration.to_json()})
        write_thresholds(part / f"{model.stem}_Thresholds.csv", calibration)
        write_page(part / f"{model.stem}_calibration.html")
    return output / model.name
