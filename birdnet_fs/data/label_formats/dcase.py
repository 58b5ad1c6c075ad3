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

from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.data.label_formats.tables import read_table

TIMES = ("Audiofilename", "Starttime", "Endtime")
ONE_CLASS = "CALL"


def matches(source: Source) -> bool:
    """Whether the table, or any CSV below the root when there is no single table, has these columns."""
    if source.table is not None:
        return set(TIMES) <= set(source.table.columns)
    return next(_tables(source), None) is not None


def read(source: Source) -> Iterator[LabelRow]:
    """One row per event."""
    for path in [source.table_path] if source.table_path else _tables(source):
        table = read_table(path, source.notes)
        classes = [name for name in table.columns if name and name not in TIMES]
        for number, cells in table.rows:
            values = {path.parent.name if name == ONE_CLASS else name: cells[name].upper() for name in classes}
            yield LabelRow(
                f"{path.name} row {number}",
                cells["Audiofilename"],
                tuple(name for name in values if values[name] == "POS"),
                onset=cells["Starttime"],
                offset=cells["Endtime"],
                beside=str(path.parent),
                labeled="POS" in values.values(),
                unknown=tuple(name for name in values if values[name] == "UNK"),
                cells=cells,
            )


def _tables(source: Source) -> Iterator[Path]:
    for path in source.text_files:
        if path.suffix.lower() == ".csv":
            with open(path, "rb") as file:
                if file.readline().lstrip(b"\xef\xbb\xbf").startswith(b"Audiofilename"):
                    yield path
