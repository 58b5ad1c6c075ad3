"""Engines whose probabilities are calibrated."""

from dataclasses import replace

import numpy as np

from birdnet_fs.inference.activations import to_log_odds
from birdnet_fs.inference.calibration.stored import Calibration
from birdnet_fs.inference.engine import Engine, NumpyFunction


def calibrated(engine: Engine, calibration: Calibration | None) -> Engine:
    """An engine that gives the calibrated log-odds of another, and their sigmoid as probabilities.

    Args:
        engine: The engine; its scores may also be ranks, which become probabilities.
        calibration: The calibration of its classes; None changes nothing.

    Returns:
        The engine.
    """
    if calibration is None:
        return engine
    return replace(
        engine,
        activation="sigmoid",
        one_label=not engine.multi_label,
        gives_ranks=False,
        identity=f"{engine.identity} {calibration.identity}",
        forward=calibrated_function(engine.forward, engine.activation, calibration),
        head=engine.head and calibrated_function(engine.head, engine.activation, calibration),
        calibration=calibration,
    )


def calibrated_function(logits_of: NumpyFunction, activation: str, calibration: Calibration) -> NumpyFunction:
    """A function that gives calibrated log-odds.

    Args:
        logits_of: Input [n, ...] -> logits [n, n_classes].
        activation: "softmax" or "sigmoid", of these logits.
        calibration: The calibration.

    Returns:
        Input [n, ...] -> calibrated log-odds float32 [n, n_classes].
    """

    def log_odds_of(inputs: np.ndarray) -> np.ndarray:
        logits = logits_of(inputs)
        if logits.ndim != 2 or logits.shape[1] != len(calibration.classes):
            return logits  # the engine refuses it
        return calibration.maps(to_log_odds(logits, activation)).astype(np.float32)

    return log_odds_of
