"""Submission tables of BirdCLEF: the rows that a competition asks for, filled with the scores of windows.

Long (2022): test.csv with the columns row_id, file_id, bird and end_time; the submission is `row_id,target`, True or
False, with row_id = file_id _ bird _ end_time. Wide (2023 to 2025): sample_submission.csv with row_id and one column
per class; the submission has probabilities, with row_id = file_id _ end_time. A window is stamped with its end.

The given table decides rows, columns and their order: the submission never has fewer rows. Rows of windows without
scores, and classes that were not scored, get False or 0, and are counted.

Source: https://www.kaggle.com/competitions/birdclef-2022/data, https://www.kaggle.com/competitions/birdclef-2025/data
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import escaped
from birdnet_fs.data.tables.reading import Table, open_table

LONG = ("rowid", "fileid", "bird", "endtime")  # keys of the columns of test.csv
Window = tuple[str, int]  # file_id, end in seconds


@dataclass(frozen=True)
class SubmissionRows:
    """The rows that a competition asks for.

    Attributes:
        layout: "long" or "wide".
        row_ids: Name of each row, in order.
        windows: (file_id, end in seconds) of each row.
        birds: Class of each row of the long form; () for the wide one.
        columns: Classes of the wide form, in order; () for the long one.
        id_column: Name of the first column.
    """

    layout: Literal["long", "wide"]
    row_ids: tuple[str, ...]
    windows: tuple[Window, ...]
    birds: tuple[str, ...]
    columns: tuple[str, ...]
    id_column: str

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that are asked for, in the order of their first row or column."""
        return self.columns or tuple(dict.fromkeys(self.birds))


@dataclass(frozen=True, eq=False)
class WindowProbabilities:
    """Probabilities of windows.

    Attributes:
        classes: Names of the classes.
        windows: (file_id, end in seconds) of each row.
        probabilities: float [n_windows, n_classes], 0..1.
    """

    classes: tuple[str, ...]
    windows: tuple[Window, ...]
    probabilities: NDArray[np.floating]


@dataclass(frozen=True)
class SubmissionReport:
    """What a submission lacks.

    Attributes:
        n_rows: Rows of the submission.
        n_without_scores: Rows whose window was not scored.
        recordings: Their recordings (file_id), sorted.
        classes: Classes that were asked for and not scored, in order.
    """

    n_rows: int
    n_without_scores: int
    recordings: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """Sentences for the user; none where nothing is missing."""
        found = []
        if self.n_without_scores:
            found.append(
                f"{self.n_without_scores} of {self.n_rows} rows, of {len(self.recordings)} recordings, have no scores "
                f"and get no detection: {_shown(self.recordings)}"
            )
        if self.classes:
            names = _shown(self.classes)
            found.append(f"{len(self.classes)} classes are not of the model and get no detection: {names}")
        return tuple(found)


def read_submission_rows(path: Path | str) -> SubmissionRows:
    """Read test.csv of the long form, or sample_submission.csv of the wide one.

    Args:
        path: The table.

    Returns:
        The rows.

    Raises:
        UserError: The columns are of neither form, a row has no usable end or name, or a row_id is there twice.
    """
    table = open_table(Path(path), [])
    names = {key: table.column((key,)) for key in LONG}
    if names["fileid"] and names["bird"] and names["endtime"]:
        return _long(table, names)
    if table.columns[0].lower() == "row_id" and len(table.columns) > 1 and "target" not in table.columns:
        return _wide(table)
    raise UserError(
        f"{escaped(path)} must have the columns row_id, file_id, bird and end_time (test.csv), or row_id and one "
        f"column per class (sample_submission.csv). Received: {', '.join(map(escaped, table.columns[:10]))}"
    )


def write_submission(
    rows: SubmissionRows, scored: WindowProbabilities, output: Path | str, *, threshold: float = 0.5
) -> SubmissionReport:
    """Write a submission, atomically.

    Args:
        rows: The rows that are asked for.
        scored: Probabilities of windows; those that no row asks for are left out.
        output: CSV file to write.
        threshold: Lowest probability of a True in the long form, 0..1. Default: 0.5.

    Returns:
        What is missing.

    Raises:
        UserError: The threshold is out of range, a window was scored twice, or a probability is not in 0..1.
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"The threshold must be in 0..1. Received: {threshold}")
    probabilities = np.asarray(scored.probabilities, np.float64)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise UserError("Probabilities of a submission must be in 0..1.")
    place = {window: number for number, window in enumerate(scored.windows)}
    if len(place) < len(scored.windows):
        raise UserError("Every window of a submission must be scored once; the same one was given twice.")
    column = {name: number for number, name in enumerate(scored.classes)}
    found = [place.get(window, -1) for window in rows.windows]
    with atomic_path(output) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv_writer(file)
        if rows.layout == "long":
            writer.writerow([rows.id_column, "target"])
            for name, bird, number in zip(rows.row_ids, rows.birds, found, strict=True):
                known = number >= 0 and bird in column
                writer.writerow([name, bool(known and probabilities[number, column[bird]] >= threshold)])
        else:
            writer.writerow([rows.id_column, *rows.columns])
            order = [column.get(name, -1) for name in rows.columns]
            for name, number in zip(rows.row_ids, found, strict=True):
                values = [probabilities[number, at] if number >= 0 and at >= 0 else 0.0 for at in order]
                writer.writerow([name, *(f"{value:.6g}" for value in values)])
    without = [window for window, number in zip(rows.windows, found, strict=True) if number < 0]
    missing = tuple(name for name in rows.classes if name not in column)
    return SubmissionReport(len(found), len(without), tuple(sorted({name for name, _ in without})), missing)


def _long(table: Table, names: dict[str, str]) -> SubmissionRows:
    ids, windows, birds = list[str](), list[Window](), list[str]()
    for number, cells, problem in table.rows():
        file_id, bird, end = (cells.get(names[key]) for key in ("fileid", "bird", "endtime"))
        whole = f"{file_id}_{bird}_{end}"
        name = (cells.get(names["rowid"]) if names["rowid"] else "") or whole
        if problem or not file_id or not bird or name != whole:
            raise UserError(
                f"{escaped(table.name)} row {number}: row_id must be file_id_bird_end_time, {escaped(whole)}. "
                f"Received: {escaped(name)}"
            )
        ids.append(name)
        birds.append(bird)
        windows.append((file_id, _end(end, table, number)))
    return SubmissionRows("long", _unique(ids, table), tuple(windows), tuple(birds), (), names["rowid"] or "row_id")


def _wide(table: Table) -> SubmissionRows:
    ids, windows = list[str](), list[Window]()
    for number, cells, problem in table.rows():
        name = cells.get(table.columns[0])
        file_id, line, end = name.rpartition("_")
        if problem or not line or not file_id:
            raise UserError(
                f"{escaped(table.name)} row {number}: row_id must be file_id_end. Received: {escaped(name)!r}"
            )
        ids.append(name)
        windows.append((file_id, _end(end, table, number)))
    return SubmissionRows("wide", _unique(ids, table), tuple(windows), (), table.columns[1:], table.columns[0])


def _end(cell: str, table: Table, number: int) -> int:
    try:
        end = float(cell)
    except ValueError:
        end = math.nan
    if not (0 < end < 1e7 and end == int(end)):
        raise UserError(
            f"{escaped(table.name)} row {number}: the end of a window must be a whole number of seconds above 0. "
            f"Received: {escaped(cell)!r}"
        )
    return int(end)


def _unique(ids: list[str], table: Table) -> tuple[str, ...]:
    if not ids:
        raise UserError(f"{escaped(table.path)} has no rows.")
    seen = set[str]()
    for name in ids:
        if name in seen:
            raise UserError(f"{escaped(table.name)} has the row_id {escaped(name)} twice.")
        seen.add(name)
    return tuple(ids)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(escaped, names[:3])) + (", ..." if len(names) > 3 else "")
