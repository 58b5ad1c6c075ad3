"""Species that occur at a place in a week of the year, by the location model of BirdNET, a file that the user has.

Source: the BirdNET location model V2.4 (`..._MData_Model_V2_FP16.tflite`, CC BY-NC-SA 4.0): input float32 [1, 3] of
latitude, longitude and week, output float32 [1, 6522] in 0..1, one for each line of `..._Labels.txt`. As in
BirdNET-Analyzer, a year has 48 weeks, four in each month, -1 asks for the whole year, and species below .03 are left
out.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.class_names import folded_name, scientific_and_common
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.encoders.runtimes import open_tflite, run_tflite

N_WEEKS = 48
LEAST = 0.03  # default of BirdNET-Analyzer (--sf_thresh)
N_VALUES = 3


def species_weights(
    model: Path, classes: Sequence[str], *, lat: float, lon: float, week: int = -1, least: float = LEAST
) -> NDArray[np.float64]:
    """1 for classes that occur at a place and week, and for those that the location model does not have; else 0.

    Args:
        model: The location model, with a file of labels in the same folder, whose name ends in `Labels.txt`.
        classes: Class names; they are compared with the labels by scientific name.
        lat: Latitude in degrees, -90 to 90.
        lon: Longitude in degrees, -180 to 180.
        week: Week of the year, 1 to 48 (four in each month), or -1 for any. Default: -1.
        least: Lowest score of a species that occurs, 0..1. Default: LEAST.

    Returns:
        float64 [n_classes].

    Raises:
        UserError: A value is out of range, the model or its labels cannot be read or do not fit, or no class is one of
            its species.
    """
    for name, value, low, high in (("lat", lat, -90, 90), ("lon", lon, -180, 180), ("least", least, 0, 1)):
        if not low <= value <= high:
            raise UserError(f"{name} of the location must be in {low}..{high}. Received: {value:g}")
    if week != -1 and not 1 <= week <= N_WEEKS:
        raise UserError(f"week of the location must be in 1..{N_WEEKS}, or -1 for the whole year. Received: {week}")
    names, scores = _labels(model), _scores(model, (lat, lon, week))
    if len(names) != len(scores):
        raise UserError(
            f"{escaped(model)} gives {len(scores)} species, and its labels name {len(names)}; put the labels of this "
            "model beside it."
        )
    occurs = {name: score >= least for name, score in zip(names, scores.tolist(), strict=True)}
    found = [occurs.get(_key(name)) for name in classes]
    if all(each is None for each in found):
        raise UserError(
            f"None of the classes is a species of {escaped(model)}; its species have scientific names. First class: "
            f"{escaped(classes[0])!r}"
        )
    return np.array([1.0 if each is None else float(each) for each in found])


def _key(name: str) -> str:
    return folded_name(scientific_and_common(name)[0])


def _scores(model: Path, values: tuple[float, float, float]) -> NDArray[np.float32]:
    if not model.is_file():
        raise UserError(f"The location model must be a .tflite file that exists. Received: {escaped(model)}")
    interpreter = open_tflite(model, model, threads=1)
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if tuple(map(int, source["shape"])) != (1, N_VALUES) or np.dtype(source["dtype"]) != np.float32:
        raise UserError(
            f"{escaped(model)} must read [1, 3] (latitude, longitude, week), as the location model of BirdNET does. "
            f"Received: {list(map(int, source['shape']))}"
        )
    given = np.array([values], np.float32)
    return np.asarray(run_tflite(interpreter, given, [result["index"]])[0], np.float32).reshape(-1)


def _labels(model: Path) -> list[str]:
    files = sorted(model.parent.glob("*Labels.txt")) if model.parent.is_dir() else []
    if len(files) != 1:
        raise UserError(f"One file of labels (...Labels.txt) must be beside {escaped(model)}. Received: {len(files)}")
    try:
        lines = files[0].read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The labels {escaped(files[0])} cannot be read ({escaped(error)}).") from None
    return [_key(line) for line in lines]
