"""`data.where`: which rows of a table are used, as `set=xc171,role=base|val|novel`.

Conditions are separated by commas and must all be met; `|` separates the values that a column may have.
"""

from collections.abc import Iterable, Mapping

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.data.label_formats.source import LabelRow


def parse_row_filter(text: str, setting: str = "data.where") -> dict[str, tuple[str, ...]]:
    """Parse the conditions of a row filter.

    Args:
        text: Conditions; "" = none.
        setting: Setting that is named in error messages. Default: "data.where".

    Returns:
        Column -> the values that it may have.

    Raises:
        UserError: A condition is not column=value.

    >>> parse_row_filter("set=xc171,role=base|val")
    {'set': ('xc171',), 'role': ('base', 'val')}
    """
    conditions: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        column, equals, values = part.partition("=")
        if not equals or not column.strip():
            raise UserError(f"{setting} must be column=value or column=a|b, separated by commas. Received: {part!r}")
        conditions[column.strip()] = tuple(value.strip() for value in values.split("|"))
    return conditions


def check_columns(conditions: Mapping[str, tuple[str, ...]], columns: Iterable[str], name: str) -> None:
    """Check that the table has the columns of all conditions.

    Args:
        conditions: Column -> accepted values, from `parse_row_filter`.
        columns: Columns of the table.
        name: Name of the table for the message.

    Raises:
        UserError: A column is unknown; the message suggests the nearest one.
    """
    columns = list(columns)
    for column in conditions:
        if column not in columns:
            known = ", ".join(columns) or "none"
            raise UserError(f"data.where: {name} has no column {column!r}.{nearest(column, columns)} Columns: {known}")


def row_matches(conditions: Mapping[str, tuple[str, ...]], cells: Mapping[str, str]) -> bool:
    """Whether the cells of a row meet every condition."""
    return all(cells.get(column, "") in values for column, values in conditions.items())


def filter_rows(rows: list[LabelRow], text: str, name: str) -> list[LabelRow]:
    """Select the rows that `data.where` describes; beside the table's columns there are label, group, fold and split.

    Args:
        rows: Rows of one table, 1 or more.
        text: Value of `data.where`; "" selects all rows.
        name: Name of the table for messages.

    Returns:
        The selected rows, in their order.

    Raises:
        UserError: `text` is malformed or names an unknown column, or no row is selected.
    """
    conditions = parse_row_filter(text)
    if not conditions:
        return rows
    cells = [_cells(row) for row in rows]
    check_columns(conditions, dict.fromkeys(column for each in cells for column in each), name)
    selected = [row for row, each in zip(rows, cells, strict=True) if row_matches(conditions, each)]
    if not selected:
        values = "; ".join(
            f"{column} has {', '.join(sorted({each.get(column, '') for each in cells})[:12])}" for column in conditions
        )
        raise UserError(f"data.where={text} selects none of the {len(rows)} rows of {name}: {values}.")
    return selected


def _cells(row: LabelRow) -> dict[str, str]:
    primary = row.labels[0] if row.labels else ""
    return {"label": primary, "group": row.group, "fold": row.fold, "split": row.split, **row.cells}
