"""The calibration of a model as it is stored: `calibration.json` of a run or an ensemble, "calibration" in a sidecar.

It holds the maps of all classes, thresholds for wanted precisions, the post-processing that the thresholds belong to,
and numbers for reports. The file may come from a stranger: every value is checked before use.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import __version__
from birdnet_fs.core.errors import UserError, shown
from birdnet_fs.core.files import refuse_link, write_json
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped
from birdnet_fs.inference.calibration.maps import CalibrationMaps
from birdnet_fs.runs.config_file import newer_sentence, newer_version
from birdnet_fs.runs.run import CALIBRATION

FORMAT = 1
AGAIN = "calibrate the model again with birdnet-fs calibrate"
MAX_BYTES = 200_000_000
MAX_STEPS = 10_000  # of an isotonic map
LARGEST = 1e6  # slope, offset and log-odds beyond these are no calibration


@dataclass(frozen=True)
class ClassThreshold:
    """The threshold of one class for one precision.

    Attributes:
        threshold: Lowest score of a detection, 0..1; None where the precision could not be shown.
        precision: Share of right detections on recordings that the threshold was not chosen on; None without them.
        low: Lower end of its 95 % interval, or None.
        high: Upper end of its 95 % interval, or None.
        recall: Share of the windows with the class that are detected, or None.
        n_detections: Number of detections behind `precision`.
        n_recordings: Number of recordings that they are in.
        reason: Reason for a missing threshold; "" where there is one.
    """

    threshold: float | None
    precision: float | None = None
    low: float | None = None
    high: float | None = None
    recall: float | None = None
    n_detections: int = 0
    n_recordings: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Calibration:
    """A calibration.

    Attributes:
        classes: Class names of the model, in its order.
        maps: Maps of the log-odds.
        thresholds: Wanted precision, above 0 and below 1 -> one threshold for each class. Default: none.
        post: Post-processing of the scores that the thresholds are for, as `analyze --post` takes it. Default: none.
        post_identity: SHA-256 of the post-processing with the files that it names; "" without. Default: "".
        hop_s: Seconds between the windows that the thresholds were chosen on. Default: 0, unknown.
        about: Numbers for reports: what it was made on, errors before and after, false alarms on noise.
    """

    classes: tuple[str, ...]
    maps: CalibrationMaps
    thresholds: Mapping[float, tuple[ClassThreshold, ...]] = field(default_factory=dict)
    post: str = ""
    post_identity: str = ""
    hop_s: float = 0.0
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """SHA-256 of what affects scores and detections."""
        values = {key: value for key, value in self.to_json().items() if key not in ("about", "versions")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def for_precision(self, precision: float) -> tuple[ClassThreshold, ...]:
        """The thresholds for a precision.

        Args:
            precision: Wanted share of right detections, 0..1.

        Returns:
            One for each class.

        Raises:
            UserError: No thresholds were stored for this precision.
        """
        for stored, found in self.thresholds.items():
            if abs(stored - precision) < 1e-9:
                return found
        known = ", ".join(f"{each:g}" for each in sorted(self.thresholds)) or "none"
        raise UserError(
            f"The model has thresholds for the precisions {known}. Received: {precision:g}; choose one of these, or "
            f"{AGAIN} --precision {precision:g}."
        )

    def scores_for(self, precision: float) -> NDArray[np.float32]:
        """The thresholds for a precision as scores; UserErrors are those of `for_precision`.

        Args:
            precision: Wanted share of right detections, 0..1.

        Returns:
            float32 [n_classes], infinite for classes without a threshold.
        """
        found = [np.inf if each.threshold is None else each.threshold for each in self.for_precision(precision)]
        return np.array(found, np.float32)

    def to_json(self) -> dict[str, Any]:
        """The content of the file."""
        return {
            "format": FORMAT,
            "versions": {"birdnet_fs": __version__},
            "classes": [escaped(name) for name in self.classes],
            "maps": self.maps.to_json(),
            "thresholds": {f"{p:g}": [dict(vars(each)) for each in found] for p, found in self.thresholds.items()},
            "post": self.post,
            "post_identity": self.post_identity,
            "hop_s": self.hop_s,
            "about": dict(self.about),
        }


def has_calibration(folder: Path) -> bool:
    """Whether a run folder or an ensemble is calibrated."""
    return (folder / CALIBRATION).is_file()


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write `calibration.json` into a run folder or an ensemble."""
    write_json(folder / CALIBRATION, calibration.to_json())


def read_calibration(folder: Path, classes: Sequence[str]) -> Calibration | None:
    """Read the calibration of a run folder or an ensemble.

    Args:
        folder: The folder.
        classes: Class names of the model.

    Returns:
        The calibration; None where there is none.

    Raises:
        UserError: The file is a link to another place.
    """
    file = folder / CALIBRATION
    if not file.is_file():
        return None
    refuse_link(file, folder, AGAIN)
    return parse_calibration(read_json(file, AGAIN, max_bytes=MAX_BYTES), file, classes)


def parse_calibration(values: Any, place: Path, classes: Sequence[str]) -> Calibration:
    """Check a calibration that was read as JSON.

    Args:
        values: The JSON value.
        place: File of the calibration, for messages.
        classes: Class names of the model.

    Returns:
        The calibration.

    Raises:
        UserError: A newer version wrote it, it is of other classes, or a value is missing or wrong.
    """
    name = escaped(place)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        if newer := newer_version(values.get("versions") if isinstance(values, dict) else None):
            raise UserError(f"{newer_sentence(place, newer)}.")
        raise UserError(f"{name} holds no calibration of format {FORMAT}; {AGAIN}.")
    if values.get("classes") != [escaped(each) for each in classes]:
        raise UserError(f"{name} holds the calibration of other classes than those of the model; {AGAIN}.")
    try:
        maps = _maps(values["maps"], len(classes))
        thresholds = {
            _number(float(p), 0, 1): tuple(_threshold(each) for each in _list(found, len(classes)))
            for p, found in values["thresholds"].items()
        }
        post, post_identity, about = values["post"], values["post_identity"], values["about"]
        hop_s = _number(values["hop_s"], 0, LARGEST)
        if not isinstance(post, str) or not isinstance(post_identity, str) or not isinstance(about, dict):
            raise ValueError("post, post_identity and about")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{name} holds a damaged calibration ({escaped(shown(error.args[0]))}); {AGAIN}.") from None
    return Calibration(tuple(classes), maps, thresholds, post, post_identity, hop_s, about)


def _maps(values: Any, n_classes: int) -> CalibrationMaps:
    slope, offset, steps = np.ones(n_classes), np.zeros(n_classes), {}
    for c, each in enumerate(_list(values, n_classes)):
        if "slope" in each:
            slope[c], offset[c] = _number(each["slope"], 1e-6, LARGEST), _number(each["offset"], -LARGEST, LARGEST)
            continue
        given, to = (np.array([_number(value, -LARGEST, LARGEST) for value in each[key]]) for key in ("from", "to"))
        if not 1 <= len(given) == len(to) <= MAX_STEPS or (np.diff(given) <= 0).any() or (np.diff(to) < 0).any():
            raise ValueError("the steps of an isotonic map")
        steps[c] = (given, to)
    return CalibrationMaps(slope, offset, steps)


def _threshold(values: Any) -> ClassThreshold:
    parts = {key: values[key] for key in ("threshold", "precision", "low", "high", "recall")}
    checked: dict[str, Any] = {key: None if value is None else _number(value, 0, 1) for key, value in parts.items()}
    counts = {key: values[key] for key in ("n_detections", "n_recordings")}
    if not all(type(n) is int and n >= 0 for n in counts.values()) or not isinstance(values["reason"], str):
        raise ValueError("the counts of a threshold")
    return ClassThreshold(**checked, **counts, reason=values["reason"])


def _number(value: Any, low: float, high: float) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"a number in {low:g}..{high:g} was expected")
    return float(value)


def _list(values: Any, length: int) -> list[Any]:
    if not isinstance(values, list) or len(values) != length:
        raise ValueError(f"a list of {length} was expected")
    return values
