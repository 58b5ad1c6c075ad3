"""The calibration of a run as a part of the exported file, so that every program gets calibrated scores.

Slope and offset of each class (`platt`, `temperature`) are two operators behind the logits, for a softmax behind their
log-odds. The sidecar of such a file holds the thresholds, and maps that change nothing. Steps of isotonic regression
stay in the sidecar, where the readers of this package apply them, and so does a calibration for a program that makes
probabilities of the output in a way of its own.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from birdnet_fs.inference.calibration.maps import CalibrationMaps
from birdnet_fs.inference.calibration.stored import Calibration, read_calibration

if TYPE_CHECKING:
    from birdnet_fs.export.spec import ExportSpec
    from birdnet_fs.runs.run import Run


def maps_for_graph(run: "Run") -> CalibrationMaps | None:
    """The maps of a run that can be part of a file.

    UserErrors of `read_calibration` are passed on.

    Args:
        run: Any run.

    Returns:
        Slopes and offsets; None without calibration, or where a class has the steps of isotonic regression.
    """
    calibration = read_calibration(run.path, run.classes)
    return None if calibration is None or calibration.maps.steps else calibration.maps


def maps_of_file(run: "Run", spec: "ExportSpec") -> CalibrationMaps | None:
    """The maps that are part of a file; None where none are."""
    return maps_for_graph(run) if spec.calibrated else None


def sidecar_calibration(run: "Run", spec: "ExportSpec") -> Calibration | None:
    """The calibration as the sidecar of a file holds it.

    Args:
        run: The run.
        spec: Specification of the file.

    Returns:
        The calibration, with maps that change nothing where they are part of the file; None without calibration.
    """
    calibration = read_calibration(run.path, run.classes)
    if calibration is None or not spec.calibrated:
        return calibration
    n_classes = len(run.classes)
    return replace(calibration, maps=CalibrationMaps(np.ones(n_classes), np.zeros(n_classes)))


def calibration_sentence(run: "Run", spec: "ExportSpec") -> str:
    """The line about the calibration that an export prints; "" for a run without one."""
    calibration = read_calibration(run.path, run.classes)
    if calibration is None:
        return ""
    if spec.calibrated:
        return "The calibration is part of the file: every program gets calibrated scores."
    reason = "the program makes probabilities of the output in its own way"
    if calibration.maps.steps:
        reason = "steps of isotonic regression cannot be part of the file"
    return (
        f"The calibration is in the sidecar ({reason}): a program that does not read it gets scores without "
        "calibration; use model_threshold of the table of thresholds there."
    )
