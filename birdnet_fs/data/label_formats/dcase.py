"""DCASE few-shot bioacoustic event detection: one CSV per recording, columns Audiofilename, Starttime, Endtime and
one per class with POS, NEG or UNK (https://dcase.community/challenge2024/task-few-shot-bioacoustic-event-detection).

POS labels the event; NEG and UNK label nothing, and what no event labels is taken as absent. Where there is one class,
its column may be called CALL: it is then named as the table's folder, as the organizers do
(https://github.com/c4dm/dcase-few-shot-bioacoustic).
"""

from collections.abc import Iterator
from pathlib import Path

from birdnet_fs.data.label_formats.source import Row, Source, read_table

TIMES = ("Audiofilename", "Starttime", "Endtime")
ONE_CLASS = "CALL"


def matches(source: Source) -> bool:
    """Whether the table, or the first CSV below the root when no table is set, is of this kind."""
    if source.table is not None:
        return set(TIMES) <= set(source.table.columns)
    return next(_tables(source), None) is not None


def read(source: Source) -> Iterator[Row]:
    """One row per event."""
    for path in [source.table_path] if source.table_path else _tables(source):
        table = read_table(path, source.notes)
        classes = [name for name in table.columns if name and name not in TIMES]
        for number, cells in table.rows:
            said = {path.parent.name if name == ONE_CLASS else name: cells[name].upper() for name in classes}
            yield Row(
                f"{path.name} row {number}",
                cells["Audiofilename"],
                tuple(name for name in said if said[name] == "POS"),
                onset=cells["Starttime"],
                offset=cells["Endtime"],
                beside=str(path.parent),
                labeled="POS" in said.values(),
                cells=cells,
            )


def _tables(source: Source) -> Iterator[Path]:
    for path in source.text_files:
        if path.suffix.lower() == ".csv":
            with open(path, "rb") as file:
                if file.readline().lstrip(b"\xef\xbb\xbf").startswith(b"Audiofilename"):
                    yield path
