"""Thresholds as a CSV table, for people and for programs that cannot read the calibration itself.

`threshold` is compared with the calibrated and post-processed score. `model_threshold` is what it is for the score of
the exported file, with its activation and without calibration; empty where post-processing is between the two.
"""

from pathlib import Path

import numpy as np

from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import mark_formula
from birdnet_fs.inference.activations import to_logits, to_probabilities
from birdnet_fs.inference.calibration.stored import Calibration, ClassThreshold

COLUMNS = (
    *("class", "precision", "threshold", "model_threshold", "shown_precision", "low", "high", "recall"),
    *("n_detections", "n_recordings", "reason"),
)


def write_thresholds(path: Path, calibration: Calibration) -> None:
    """Write the thresholds of a calibration, one row for each class and precision."""
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv_writer(file)
        writer.writerow(COLUMNS)
        for precision, classes in calibration.thresholds.items():
            for c, (name, each) in enumerate(zip(calibration.classes, classes, strict=True)):
                numbers = (each.precision, each.low, each.high, each.recall)
                writer.writerow(
                    [
                        mark_formula(name),
                        f"{precision:g}",
                        "" if each.threshold is None else f"{each.threshold:.9g}",
                        model_threshold(calibration, c, each),
                        *("" if number is None else f"{number:.4f}" for number in numbers),
                        each.n_detections,
                        each.n_recordings,
                        each.reason,
                    ]
                )


def model_threshold(calibration: Calibration, c: int, threshold: ClassThreshold) -> str:
    """A threshold as the score of the model without calibration.

    Args:
        calibration: The calibration.
        c: Number of the class.
        threshold: Threshold of the class.

    Returns:
        The score with nine digits; "" where there is none.
    """
    if threshold.threshold is None or calibration.post:
        return ""
    log_odds = calibration.maps.inverse(c, float(to_logits([threshold.threshold], "sigmoid")[0]))
    return f"{float(to_probabilities(np.array([log_odds]), 'sigmoid')[0]):.9g}"
