"""DCASE few-shot bioacoustic event detection: one CSV per recording with POS, NEG or UNK for each event and class.

Source: https://dcase.community/challenge2024/task-few-shot-bioacoustic-event-detection. Columns are Audiofilename,
Starttime, Endtime and one per class. POS labels the event; NEG does not, and times without a labeled event count as
without the class. UNK is unknown, neither present nor absent: such windows are neither positive nor negative examples
of the class in training, and are left out of validation and evaluation. If there is one class, its column may be named
CALL; the class then has the name of the table's folder, as in the code of the organizers
(https://github.com/c4dm/dcase-few-shot-bioacoustic).
"""

from collections.abc import Iterator
from pathlib import Path

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.data.tables import columns as names
from birdnet_fs.data.tables.reading import Table, open_table
from birdnet_fs.data.tables.times import TimeReader

PATH = ("audiofilename",)
ONE_CLASS = "CALL"


def matches(source: Source) -> bool:
    """Whether the table, or any CSV below the root when there is no single table, has these columns."""
    if source.table is not None:
        return _is_dcase(source.table)
    return next(_tables(source), None) is not None


def read(source: Source) -> Iterator[LabelRow]:
    """One row per event, and one for a table that cannot be read."""
    given = source.root / source.data.table
    for path in [given] if given.is_file() else _tables(source):
        try:
            yield from _one(path, open_table(path, source.notes))
        except UserError as error:
            yield LabelRow(path.name, str(path), refused=str(error))


def _one(path: Path, table: Table) -> Iterator[LabelRow]:
    reader = TimeReader(names.time_columns(table.columns, table.name), table.delimiter)
    audio = table.column(PATH)
    if not audio or not reader.columns.onset:
        columns = ", ".join(map(escaped, table.columns))
        raise UserError(
            f"{escaped(table.name)} must have the columns Audiofilename, Starttime and Endtime. Columns: {columns}"
        )
    classes = [name for name in table.columns if name and name not in (audio, *reader.columns.used)]
    labels = [path.parent.name if name == ONE_CLASS else name for name in classes]
    for number, cells, refused in table.rows():
        values = {label: cells.get(name).upper() for label, name in zip(labels, classes, strict=True)}
        times = reader.read(cells)
        yield LabelRow(
            f"{table.name} row {number}",
            cells.get(audio),
            tuple(name for name in values if values[name] == "POS"),
            onset=times.onset,
            offset=times.offset,
            in_samples=reader.in_samples,
            beside=str(path.parent),
            labeled="POS" in values.values(),
            unknown=tuple(name for name in values if values[name] == "UNK"),
            problems=times.problems,
            refused=refused,
            cells=cells,
        )


def _is_dcase(table: Table) -> bool:
    keys = {names.key_of(name) for name in table.columns}
    return {*PATH, "starttime", "endtime"} <= keys


def _tables(source: Source) -> Iterator[Path]:
    for path in source.text_files:
        if path.suffix.lower() == ".csv":
            with open(path, "rb") as file:
                head = file.readline(4096).replace(b"\0", b"").lower()
            if b"audio" in head and _is_dcase_file(path):
                yield path


def _is_dcase_file(path: Path) -> bool:
    try:
        return _is_dcase(open_table(path, []))
    except UserError:
        return False
