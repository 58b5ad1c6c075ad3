"""Steps that weigh classes by what is known beside the sound: a table of weights, the place and week of the year.

Weights are factors of the odds p / (1 - p), so that scores stay in 0..1 and certain ones change least: with the prior
odds of a class as weight, this is Bayes' rule for a model that was trained without a prior.
"""

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis.options import allowed_classes
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.text import escaped, unmark_formula

MAX_WEIGHT = 1e6
HOURS = 24
MAX_BYTES = 50_000_000
_PARTS = re.compile(r"[_\-. ]")
Scores = NDArray[np.float32]


def weigh(scores: Scores, weights: NDArray[np.float64]) -> Scores:
    """Multiply the odds of classes.

    Args:
        scores: float32 [n_windows, n_classes] in 0..1.
        weights: float64 [n_classes] or [n_windows, n_classes], 0 or more; a weight of 0 gives the score 0.

    Returns:
        float32 [n_windows, n_classes].

    >>> weigh(np.array([[0.5, 0.5]], np.float32), np.array([1.0, 3.0])).tolist()
    [[0.5, 0.75]]
    """
    p = scores.astype(np.float64)
    raised = p * weights
    with np.errstate(invalid="ignore", divide="ignore"):
        found = raised / (raised + (1 - p))
    return np.asarray(np.where(p >= 1, np.where(weights > 0, 1.0, 0.0), np.nan_to_num(found)), np.float32)


def read_weights(path: Path, classes: Sequence[str], *, by_hour: bool = False) -> NDArray[np.float64]:
    """Read a table of weights of classes.

    Args:
        path: CSV with the columns class and weight and, with `by_hour`, hour (0 to 23). A class is named as in a
            species list; classes, and hours of a class, that are not in the table have the weight 1.
        classes: Class names of the model.
        by_hour: Whether weights are by hour of the day. Default: False.

    Returns:
        float64 [n_classes], with `by_hour` [24, n_classes].

    Raises:
        UserError: The table cannot be read, a column is missing or unknown, or a row has a wrong value.
    """
    weights = np.ones((HOURS, len(classes)))
    for number, row in enumerate(_rows(path, {"class", "weight", *(["hour"] if by_hour else [])}), 2):
        columns = _columns(path, number, row, classes)
        hours = int(_number(path, number, "hour", row["hour"], HOURS - 1)) if by_hour else slice(None)
        weights[hours, columns] = _number(path, number, "weight", row["weight"], MAX_WEIGHT)
    return weights if by_hour else weights[0]


def read_site_weights(path: Path, classes: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Read a table of weights of classes by site.

    Args:
        path: CSV with the columns class, site and weight; classes of a site that are not in the table have the weight
            1.
        classes: Class names of the model.

    Returns:
        Site -> float64 [n_classes].

    Raises:
        UserError: The table cannot be read, a column is missing or unknown, or a row has a wrong value or no site.
    """
    weights: dict[str, NDArray[np.float64]] = {}
    for number, row in enumerate(_rows(path, {"class", "site", "weight"}), 2):
        site = unmark_formula(row["site"]).strip()
        if not site:
            raise UserError(f"{escaped(path)}, line {number}: the site must have a name. Received: nothing")
        of_site = weights.setdefault(site, np.ones(len(classes)))
        of_site[_columns(path, number, row, classes)] = _number(path, number, "weight", row["weight"], MAX_WEIGHT)
    return weights


def site_of(recording: Path, sites: Collection[str]) -> str | None:
    """The site of a recording: a folder that it is in, or a part of its name between `_`, `-`, `.` or blanks.

    Args:
        recording: The recording.
        sites: Known sites.

    Returns:
        The site; None where no known site is in the path, or several are.
    """
    parts = {*recording.absolute().parent.parts, *_PARTS.split(recording.stem), recording.stem}
    found = parts.intersection(sites)
    return found.pop() if len(found) == 1 else None


def _columns(path: Path, line: int, row: Mapping[str, str], classes: Sequence[str]) -> list[int]:
    """Numbers of the classes that a row names."""
    name = unmark_formula(row["class"]).strip()
    try:
        return list(allowed_classes(classes, [name]))
    except UserError:
        hint = nearest(name, classes)
        raise UserError(
            f"{escaped(path)}, line {line}: the class must be one of the model.{hint} Received: {escaped(name)!r}"
        ) from None


def _rows(path: Path, columns: set[str]) -> list[dict[str, str]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{escaped(path)} must have {MAX_BYTES:,} bytes or fewer.")
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [{key: value or "" for key, value in row.items() if key is not None} for row in reader]
            names = set(reader.fieldnames or ())
    except OSError as error:
        raise UserError(f"The table of weights {escaped(path)} cannot be read ({error.strerror}).") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The table of weights {escaped(path)} must be CSV in UTF-8 ({escaped(error)}).") from None
    if names != columns:
        raise UserError(
            f"The table of weights {escaped(path)} must have the columns {', '.join(sorted(columns))}. Received: "
            f"{escaped(', '.join(sorted(names)))}"
        )
    return rows


def _number(path: Path, line: int, column: str, text: str, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= high or (column == "hour" and value != int(value)):
        kind = "a whole number" if column == "hour" else "a number"
        raise UserError(
            f"{escaped(path)}, line {line}: {column} must be {kind} in 0..{high:g}. Received: {escaped(text)!r}"
        )
    return value
