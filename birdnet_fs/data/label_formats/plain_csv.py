"""Any CSV with a path column and a label column; times, several labels, group, fold and split where present."""

from collections.abc import Iterator

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.label_formats.source import LABEL_COLUMNS, PATH_COLUMNS, Row, Source, chosen, tabular


def matches(source: Source) -> bool:
    """Whether there is a table with a column that names the audio."""
    return source.table is not None and bool(source.table.column(PATH_COLUMNS))


def read(source: Source) -> Iterator[Row]:
    """One row per line; with data.multi_label a column `labels` wins over the label column."""
    table = source.table
    if table is None:
        raise UserError("layout=csv needs a CSV table; set data.table.")
    path = table.column(PATH_COLUMNS)
    if not path:
        known, columns = ", ".join(PATH_COLUMNS), ", ".join(table.columns)
        raise UserError(f"{table.name} must have a column that names the audio ({known}). Columns: {columns}")
    label = chosen(source, table, "label_column", source.data.label_column, LABEL_COLUMNS)
    many = "labels" if "labels" in table.columns else ""
    if not label and not many:
        raise UserError(
            f"{table.name} must have a label column; set data.label_column. Columns: {', '.join(table.columns)}"
        )
    yield from tabular(source, path, label or many, many if source.data.label_column in ("label", "labels") else "")
