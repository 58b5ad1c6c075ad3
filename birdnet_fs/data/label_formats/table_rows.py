"""Rows of a table whose columns name the audio, the labels and, optionally, times, groups, folds and splits."""

import functools
import operator
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.text import escaped, unmark_formula
from birdnet_fs.data.label_formats.cells import MISSING, SEPARATOR, CellLabels, cell_labels, list_labels
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.data.tables import columns as names
from birdnet_fs.data.tables.reading import Table
from birdnet_fs.data.tables.times import TimeReader
from birdnet_fs.schema import Data

N_CACHED = 1 << 16  # cells of labels whose content is remembered
_LINE_BREAK = "its path or label has a line break in it; a quotation mark may not be closed."


def choose_column(table: Table, setting: str, wanted: str, others: Sequence[str]) -> str:
    """The column that a setting names; with the default of the setting also the first known name that the table has.

    Args:
        table: The table.
        setting: Field of `Data`, as "label_column".
        wanted: Value of the setting.
        others: Keys (columns.key_of) of known names of such a column.

    Returns:
        Name of the column, or "".

    Raises:
        UserError: The setting names a column that the table does not have, the message suggests the nearest one; or
            two columns differ from the name in case, spaces or underscores only.
    """
    if not wanted or wanted in table.columns:
        return wanted
    same = [name for name in table.columns if names.key_of(name) == names.key_of(wanted)]
    if len(same) > 1:
        shown = " and ".join(map(repr, same))
        raise UserError(f"data.{setting}={wanted} may be the column {shown} of {escaped(table.name)}; give its name.")
    if same:
        return same[0]
    if wanted != Data.__dataclass_fields__[setting].default:
        hint = nearest(wanted, table.columns)
        columns = ", ".join(map(escaped, table.columns))
        raise UserError(f"data.{setting}: {escaped(table.name)} has no column {wanted!r}.{hint} Columns: {columns}")
    return table.column(others)


def label_cells(data: Data, separators: str = SEPARATOR) -> tuple["functools._lru_cache_wrapper[CellLabels]", ...]:
    """Make the functions that read the cells of labels; their results are kept.

    Args:
        data: Settings.
        separators: Characters between secondary labels. Default: ";".

    Returns:
        Functions from a cell to its labels, for the column of labels and for that of secondary labels.
    """

    def primary(cell: str) -> CellLabels:
        return cell_labels(unmark_formula(cell), data)

    def secondary(cell: str) -> CellLabels:
        return list_labels(unmark_formula(cell), data, separators, missing=MISSING)

    keep = functools.lru_cache(N_CACHED)
    return keep(primary), keep(secondary)


def note_columns(source: Source, table: Table, label: str, used: Sequence[str], reader: TimeReader) -> None:
    """Add remarks on columns that may have been meant and are not used.

    Args:
        source: The data folder.
        table: The table.
        label: The column of labels.
        used: Other columns that are used.
        reader: The times that are used.
    """
    rest = [name for name in table.columns if name not in used and name != label]
    times = names.unused_times(rest, reader.columns)
    if times:
        shown = ", ".join(map(escaped, times))
        source.notes.append(f"Columns of {escaped(table.name)} that seem to hold times and are not used: {shown}.")
    labels = [name for name in rest if names.key_of(name) in names.LABELS]
    if labels and label and source.data.label_column == Data.label_column != label:
        shown = ", ".join(map(escaped, labels))
        source.notes.append(
            f"The labels are those of the column {escaped(label)}, not of {shown}; data.label_column names another one."
        )


def rows_of_table(
    source: Source,
    path_column: str,
    label_column: str,
    labels_column: str = "",
    *,
    separators: str = SEPARATOR,
    folders: frozenset[str] = frozenset(),
) -> Iterator[LabelRow]:
    """Rows of the table of a data folder.

    Args:
        source: The data folder.
        path_column: Column of audio paths.
        label_column: Column of the primary label, or "".
        labels_column: Column of all labels, used with data.multi_label. Default: none.
        separators: Characters between secondary labels. Default: ";".
        folders: Names of the folders of the labels, when files without a folder in their path are in that of their
            label. Default: none.

    Yields:
        One row per line.

    Raises:
        UserError: There is no table, or its columns of times cannot be used.
    """
    table = source.table
    if table is None:
        raise UserError(f"No CSV table was found in {escaped(source.root)}; set data.table.")
    data, beside, name = source.data, str(table.path.parent), table.name
    reader = TimeReader(names.time_columns(table.columns, table.name), table.delimiter)
    second = table.column(names.SECONDARY)
    primary_of, secondary_of = label_cells(data, separators)
    group, fold, split = (
        choose_column(table, f"{what}_column", getattr(data, f"{what}_column"), ())
        for what in ("group", "fold", "split")
    )
    above, folder = table.column(names.ROOTS), table.column(names.FOLDERS)
    used = (path_column, second, labels_column, group, fold, split, above, folder)
    if not folders:
        note_columns(source, table, label_column, used, reader)
    times_of, in_samples = reader.read_pair, reader.in_samples
    columns = (path_column, label_column, second, labels_column, folder, above, group, fold, split)
    places = {name: place for place, name in enumerate(table.columns)}
    no_cell = len(places)  # of a cell that is always empty
    at = operator.itemgetter(*(places.get(c, no_cell) for c in (*columns, reader.columns.onset, reader.columns.end)))
    for number, cells, refused in table.rows():
        path, cell, others, several, inside, root, group_cell, fold_cell, split_cell, start, end = at(
            (*cells.texts, "")
        )
        found, secondary = primary_of(cell), secondary_of(others)
        labels = found.labels
        if data.multi_label:
            if several:
                found = primary_of(several)
            labels = found.labels
            if secondary.labels:
                labels = tuple(dict.fromkeys(labels + secondary.labels))
        times = times_of(start, end)
        if inside and path and "/" not in path and "\\" not in path:
            path = _joined(inside, path)
        yield LabelRow(
            f"{name} row {number}",
            path,
            labels,
            tuple(name for name in secondary.labels if name not in found.labels),
            times.onset,
            times.offset,
            in_samples,
            group_cell,
            fold_cell,
            split_cell,
            beside=beside,
            folder=cell if cell in folders else "",
            other_folders=folders,
            above=root,
            labeled=found.labeled,
            problem=found.problem or secondary.problem,
            problems=times.problems,
            refused=refused or (_LINE_BREAK if "\n" in path or "\n" in cell else ""),
            cells=cells,
        )


def _joined(folder: str, name: str) -> str:
    place = folder.replace("\\", "/").strip("/")
    return str(PurePosixPath(place, name)) if place not in ("", ".") else name
