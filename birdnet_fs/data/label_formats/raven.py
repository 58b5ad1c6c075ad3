"""A folder of Raven selection tables (tab- or comma-separated; also those of BirdNET), each of one or more recordings.

The audio is named by Begin Path or Begin File, else by the name of the table: X.Table.1.selections.txt,
X.selections.txt, X.wav.txt and X.BirdNET.selection.table.txt belong to X.wav. A table without rows belongs to a
recording without events. Raven writes a selection once per view and channel; such rows are one event.

Times are counted from the start of a recording, or, with File Offset (s), over a sequence of files. A table of several
files without that column whose times and numbers run on from file to file is refused after the first file, because both
are possible.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats.cells import cell_labels
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.data.label_formats.table_rows import choose_column, note_columns
from birdnet_fs.data.tables import columns as names
from birdnet_fs.data.tables.reading import Table, open_table
from birdnet_fs.data.tables.times import TimeReader

LABELS = ("annotation", "commonname", "speciescode", "species", "label", "soundtype", "scientificname", "class")
PATHS = ("beginpath", "beginfile")
ENDING = re.compile(
    r"(\.Table\.\d+)?(\.BirdNET)?(\.selections?)?(\.table)?(\.annotation\.result)?\.(txt|tsv|csv)$", re.IGNORECASE
)
_MEASUREMENTS = frozenset({"deltatime", "peaktime", "centertime", "fileoffset"})  # times that are not needed
SAME_S = 1e-3  # times of one selection in two views differ by less


def matches(source: Source) -> bool:
    """Whether there is any selection table."""
    return next(_tables(source), None) is not None


def read(source: Source) -> Iterator[LabelRow]:
    """One row per selection, one without labels per empty table, and one for a table that cannot be read."""
    n_merged = 0
    for path in _tables(source):
        try:
            table = open_table(path, source.notes, raven=True)
            found = _one(source, table)
        except UserError as error:
            yield LabelRow(path.name, str(path), refused=str(error))
            continue
        selection, view, channel = (table.column((key,)) for key in ("selection", "view", "channel"))
        cells = ((row, row.cells.get) for row in found)
        merged = _merge_views([(row, get(selection, ""), get(view, ""), get(channel, "")) for row, get in cells])
        n_merged += len(found) - len(merged)
        yield from merged if table.column(("fileoffset",)) else _without_sequences(merged, selection)
    if n_merged:
        source.notes.append(f"{n_merged} rows of further views or channels of a selection were joined with its first.")


def _one(source: Source, table: Table) -> list[LabelRow]:
    """The rows of a table."""
    stem, beside = ENDING.sub("", table.name), str(table.path.parent)
    rows = list(table.rows())
    if not rows:
        return [LabelRow(table.name, "", stem=stem, beside=beside, labeled=False)]
    label = choose_column(table, "label_column", source.data.label_column, LABELS)
    reader = TimeReader(names.time_columns(table.columns, table.name), table.delimiter)
    if not label or not reader.columns.onset:
        what = f"a column of labels (Annotation, ...{'; data.label_column' if not label else ''})"
        what = what if not label else "columns of times (Begin Time (s), End Time (s))"
        raise UserError(f"{escaped(table.name)} must have {what}. Columns: {', '.join(map(escaped, table.columns))}")
    path, file, in_file = table.column(PATHS[:1]), table.column(PATHS[1:]), table.column(("fileoffset",))
    note_columns(source, table, label, [name for name in table.columns if names.key_of(name) in _MEASUREMENTS], reader)
    found = []
    for number, cells, refused in rows:
        named = cells.get(path) or cells.get(file)
        times = reader.read(cells)
        onset, offset, problems = times.onset, times.offset, times.problems
        if named and cells.get(in_file) and onset is not None and offset is not None:
            onset, problem = reader.number(cells.get(in_file), "file offset", in_file)
            problems = (problem,) if problem else ()
            offset = None if onset is None else round(onset + offset - (times.onset or 0.0), 9)
        labels = cell_labels(cells.get(label), source.data)
        found.append(
            LabelRow(
                f"{table.name} row {number}",
                named,
                labels.labels,
                onset=onset,
                offset=offset,
                in_samples=reader.in_samples,
                stem="" if named else stem,
                beside=beside,
                labeled=labels.labeled,
                problem=labels.problem,
                problems=problems,
                refused=refused,
                cells=cells,
            )
        )
    return found


def _merge_views(rows: list[tuple[LabelRow, str, str, str]]) -> list[LabelRow]:
    """The rows (row, selection, view, channel), those of further views and channels joined with the first one."""
    found: list[LabelRow] = []
    by_selection: dict[tuple[str, str], list[tuple[int, tuple[str, str]]]] = {}
    for row, selection, view, channel in rows:
        same = by_selection.setdefault((row.path, selection), [])
        for place, first_view in same if selection and (view or channel) and not row.refused else ():
            first = found[place]
            agree = not row.labels or not first.labels or row.labels == first.labels
            if first_view != (view, channel) and agree and _is_same_time(first, row):
                if row.labels and not first.labels:
                    found[place] = replace(first, labels=row.labels, labeled=row.labeled, problem=row.problem)
                break
        else:
            same.append((len(found), (view, channel)))
            found.append(row)
    return found


def _is_same_time(first: LabelRow, row: LabelRow) -> bool:
    pairs = ((first.onset, row.onset), (first.offset, row.offset))
    return all(a == b or (a is not None and b is not None and abs(a - b) < SAME_S) for a, b in pairs)


def _without_sequences(rows: list[LabelRow], selection: str) -> Iterator[LabelRow]:
    """The rows; those after the first file are refused where times may be counted over a sequence of files."""
    changes = [(a, b) for a, b in itertools.pairwise(rows) if a.path != b.path]
    is_sequence = (
        bool(changes and selection)
        and len({row.cells.get(selection) for row in rows}) == len(rows)
        and len({row.path for row in rows}) == len(changes) + 1
        and all(a.onset is not None and b.onset is not None and a.onset < b.onset for a, b in changes)
    )
    for row in rows:
        if is_sequence and row.path != rows[0].path and not row.refused:
            row = replace(
                row,
                refused="its start may be counted from the first of several recordings in its table, which has no "
                "column File Offset (s); save the table with that column, or one table for each recording.",
            )
        yield row


def _tables(source: Source) -> Iterator[Path]:
    for path in source.text_files:
        with open(path, "rb") as file:
            head = file.readline(1 << 16).replace(b"\0", b"").decode("latin-1").lower()
        is_csv = path.suffix.lower() == ".csv"  # such a table may be one of labels with other columns
        if names.is_selection_header(head) and (not is_csv or "selection" in head):
            yield path
