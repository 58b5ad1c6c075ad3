"""Any table with a column of audio paths and one of labels; times, all labels, group, fold and split are optional.

Names of columns are compared without case, spaces, underscores and units (tables/columns.py). The tables of
Kaleidoscope (INDIR, FOLDER, IN FILE, OFFSET, DURATION, MANUAL ID) are of this layout.
"""

from collections.abc import Iterator

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.data.label_formats.table_choice import is_folder_of_tables
from birdnet_fs.data.label_formats.table_rows import choose_column, rows_of_table
from birdnet_fs.data.tables import columns as names


def matches(source: Source) -> bool:
    """Whether there is a table with a column of audio paths that is not one of Raven or DCASE."""
    table = source.table
    return table is not None and bool(table.column(names.PATHS)) and not is_folder_of_tables(table.columns)


def read(source: Source) -> Iterator[LabelRow]:
    """One row per line; with data.multi_label a column `labels` is used instead of the label column.

    Args:
        source: The data folder.

    Yields:
        The rows of the table.

    Raises:
        UserError: There is no table, it has no path column or no label column, or its columns of times cannot be used.
    """
    table = source.table
    if table is None:
        if source.choice.unusable:
            raise UserError(f"{source.choice.unusable[0][1]}.")
        raise UserError("data.layout=csv needs a CSV table; set data.table.")
    columns = ", ".join(map(escaped, table.columns))
    path = table.column(names.PATHS)
    if not path:
        raise UserError(
            f"{escaped(table.name)} must have a column of audio paths (path, filename, file, ...). Columns: {columns}"
        )
    label = choose_column(table, "label_column", source.data.label_column, names.LABELS)
    many = table.column(("labels",))
    if not label and not many:
        raise UserError(f"{escaped(table.name)} must have a label column; set data.label_column. Columns: {columns}")
    default = source.data.label_column in ("label", "labels")
    yield from rows_of_table(source, path, label or many, many if default else "")
