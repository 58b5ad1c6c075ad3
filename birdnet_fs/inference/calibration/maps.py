"""Maps from the log-odds of a class to calibrated log-odds, one for each class, all of them non-decreasing.

Sources: Platt 1999, "Probabilistic Outputs for Support Vector Machines" (slope and offset); Guo et al. 2017, "On
Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599 (temperature: a slope alone); Zadrozny & Elkan
2002, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates",
https://doi.org/10.1145/775047.775151 (isotonic regression, and one class against all others).

Every class is a question of its own, so that calibrated probabilities are those of a sigmoid also for a model with a
softmax, whose log-odds are taken first (`activations.to_log_odds`): they need not sum to 1, and where nothing calls all
of them may be low.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birdnet_fs.core.errors import UserError, nearest

METHODS = ("platt", "temperature", "isotonic")
TILT = 1e-3  # slope of an isotonic map beside its own steps, so that different scores stay different
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationMaps:
    """The maps of all classes.

    Attributes:
        slope: float64 [n_classes], above 0.
        offset: float64 [n_classes]; the map is slope * log-odds + offset.
        steps: Number of a class -> (log-odds [n], calibrated log-odds [n]), both ascending, for isotonic maps, which
            are linear in between and constant outside. Default: none.
    """

    slope: Floats
    offset: Floats
    steps: Mapping[int, tuple[Floats, Floats]] = field(default_factory=dict)

    def __call__(self, log_odds: ArrayLike) -> Floats:
        """Calibrate.

        Args:
            log_odds: [n, n_classes].

        Returns:
            float64 [n, n_classes], calibrated log-odds.
        """
        x = np.asarray(log_odds, np.float64)
        found = x * self.slope + self.offset
        for c, (given, calibrated) in self.steps.items():
            found[:, c] = np.interp(x[:, c], given, calibrated) + TILT * x[:, c]
        return found

    def inverse(self, c: int, log_odds: float) -> float:
        """The log-odds that the map of class `c` turns into `log_odds`; infinite where none does.

        Args:
            c: Number of the class.
            log_odds: Calibrated log-odds.

        Returns:
            Log-odds of the model.
        """
        if c not in self.steps:
            return float((log_odds - self.offset[c]) / self.slope[c])
        given, calibrated = self.steps[c]
        ascending = calibrated + TILT * given
        below, above = (log_odds - end for end in (calibrated[0], calibrated[-1]))
        if log_odds < ascending[0]:
            return float(below / TILT)
        return float(above / TILT) if log_odds > ascending[-1] else float(np.interp(log_odds, ascending, given))

    def to_json(self) -> list[dict[str, Any]]:
        """One object for each class: slope and offset, or the two lists of an isotonic map."""
        return [
            {"from": self.steps[c][0].tolist(), "to": self.steps[c][1].tolist()}
            if c in self.steps
            else {"slope": float(self.slope[c]), "offset": float(self.offset[c])}
            for c in range(len(self.slope))
        ]


def check_method(method: str) -> None:
    """Refuse an unknown method.

    Args:
        method: One of METHODS.

    Raises:
        UserError: The method is none of METHODS.
    """
    if method not in METHODS:
        raise UserError(f"method must be one of {', '.join(METHODS)}.{nearest(method, METHODS)} Received: {method!r}")
