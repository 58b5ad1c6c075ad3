"""The rows and columns that a BirdCLEF competition asks for.

Long (2022): test.csv with the columns row_id, file_id, bird and end_time; the submission is `row_id,target`, True or
False, with row_id = file_id _ bird _ end_time. Wide (2023 to 2025): sample_submission.csv with row_id and one column
per class; the submission has probabilities, with row_id = file_id _ end_time. A window is stamped with its end.

Source: https://www.kaggle.com/competitions/birdclef-2022/data, https://www.kaggle.com/competitions/birdclef-2025/data
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from birdnet_fs.core.errors import UserError
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
