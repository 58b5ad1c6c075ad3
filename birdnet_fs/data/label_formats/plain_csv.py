"""Any CSV with a path column and a label column; columns of times, labels, group, fold and split are optional."""

from collections.abc import Iterator

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.label_formats.source import (
    LABEL_COLUMNS,
    PATH_COLUMNS,
    LabelRow,
    Source,
    choose_column,
    rows_of_table,
)


def matches(source: Source) -> bool:
    """Whether there is a table with a column of audio paths."""
    return source.table is not None and bool(source.table.column(PATH_COLUMNS))


def read(source: Source) -> Iterator[LabelRow]:
    """One row per line; with data.multi_label a column `labels` is used instead of the label column.

    Args:
        source: The data folder.

    Yields:
        The rows of the table.

    Raises:
        UserError: There is no table, or it has no path column or no label column.
    """
    table = source.table
    if table is None:
        raise UserError("data.layout=csv needs a CSV table; set data.table.")
    path = table.column(PATH_COLUMNS)
    if not path:
        known, columns = ", ".join(PATH_COLUMNS), ", ".join(table.columns)
        raise UserError(f"{table.name} must have a column of audio paths ({known}). Columns: {columns}")
    label = choose_column(source, table, "label_column", source.data.label_column, LABEL_COLUMNS)
    many = "labels" if "labels" in table.columns else ""
    if not label and not many:
        raise UserError(
            f"{table.name} must have a label column; set data.label_column. Columns: {', '.join(table.columns)}"
        )
    yield from rows_of_table(
        source, path, label or many, many if source.data.label_column in ("label", "labels") else ""
    )
