"""`data.where`: which rows of a table to use, as `set=xc171,role=base|val|novel`.

Conditions are separated by commas and must all hold; `|` separates the values a column may have.
"""

from collections.abc import Iterable, Mapping

from birdnet_fs.core.errors import UserError, nearest


def parse_row_filter(text: str, setting: str = "data.where") -> dict[str, tuple[str, ...]]:
    """Column -> the values it may have; `setting` is what a fault is laid to.

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
    """Refuse a condition on a column that the table does not have.

    Raises:
        UserError: The column is unknown; the nearest is named.
    """
    columns = list(columns)
    for column in conditions:
        if column not in columns:
            known = ", ".join(columns) or "none"
            raise UserError(f"data.where: {name} has no column {column!r}.{nearest(column, columns)} Columns: {known}")


def row_matches(conditions: Mapping[str, tuple[str, ...]], cells: Mapping[str, str]) -> bool:
    """Whether a row meets every condition."""
    return all(cells.get(column, "") in values for column, values in conditions.items())
