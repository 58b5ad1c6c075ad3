"""A folder of Raven selection tables (tab-separated; also those of BirdNET), each with the events of one recording.

The audio is named by Begin Path or Begin File, else by the name of the table: X.Table.1.selections.txt,
X.selections.txt and X.BirdNET.selection.table.txt belong to X.wav. A table without rows belongs to a recording without
events. Raven writes a selection once per view; only the first one is used.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from birdnet_fs.data.label_formats.cells import cell_labels
from birdnet_fs.data.label_formats.source import LabelRow, Source, choose_column
from birdnet_fs.data.label_formats.tables import Table, read_table

LABELS = ("Annotation", "Common Name", "Species Code", "Species", "Label")
ENDING = re.compile(r"(\.Table\.\d+)?(\.BirdNET)?(\.selections?)?(\.table)?\.(txt|tsv)$", re.IGNORECASE)


def matches(source: Source) -> bool:
    """Whether there is any selection table."""
    return next(_tables(source), None) is not None


def read(source: Source) -> Iterator[LabelRow]:
    """One row per selection, and one without labels per empty table."""
    for path in _tables(source):
        yield from _one(source, path, read_table(path, source.notes, delimiter="\t"))


def _one(source: Source, path: Path, table: Table) -> Iterator[LabelRow]:
    stem = ENDING.sub("", path.name)
    if not table.rows:
        yield LabelRow(path.name, "", stem=stem, beside=str(path.parent), labeled=False)
        return
    label = choose_column(source, table, "label_column", source.data.label_column, LABELS)
    seen: set[tuple[str, ...]] = set()
    for number, cells in table.rows:
        key = (cells.get("Selection", ""), cells["Begin Time (s)"], cells.get("End Time (s)", ""))
        if key[0] and key in seen:
            continue
        seen.add(key)
        named = cells.get("Begin Path") or cells.get("Begin File") or ""
        onset, offset = cells["Begin Time (s)"], cells.get("End Time (s)", "")
        if named and cells.get("File Offset (s)"):
            onset, offset = _within_file(cells["File Offset (s)"], onset, offset)
        found = cell_labels(cells.get(label, "") if label else "", source.data)
        yield LabelRow(
            f"{path.name} row {number}",
            PurePosixPath(named.replace("\\", "/")).name,
            found.labels,
            onset=onset,
            offset=offset,
            stem="" if named else stem,
            beside=str(path.parent),
            labeled=found.labeled,
            problem=found.problem,
            cells=cells,
        )


def _within_file(file_offset: str, begin: str, end: str) -> tuple[str, str]:
    """Start and end in the file, for tables whose times are counted over a sequence of files."""
    try:
        return file_offset, repr(round(float(file_offset) + float(end) - float(begin), 6))
    except ValueError:
        return begin, end


def _tables(source: Source) -> Iterator[Path]:
    for path in source.text_files:
        if path.suffix.lower() in (".txt", ".tsv"):
            with open(path, "rb") as file:
                head = file.readline()
            if b"Begin Time (s)" in head or b"B\0e\0g\0i\0n\0 \0T\0i\0m\0e\0" in head:
                yield path
