"""`data.where`: which rows of a table are used, as `set=xc171,role=base|val|novel`.

Conditions are separated by commas and must all be met; `|` separates the values that a column may have.
"""

from collections.abc import Iterable

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats.source import LabelRow
from birdnet_fs.data.tables.columns import key_of
from birdnet_fs.data.tables.reading import Cells

OWN_COLUMNS = ("label", "group", "fold", "split")  # of every layout


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


def find_columns(conditions: Iterable[str], columns: Iterable[str], name: str) -> dict[str, str]:
    """Find the columns of conditions; case, spaces and underscores do not matter where no column has just that name.

    Args:
        conditions: Columns that conditions name.
        columns: Columns of the table.
        name: Name of the table for the message.

    Returns:
        Column of a condition -> column of the table.

    Raises:
        UserError: A column is unknown, the message suggests the nearest one; or it may be one of two.
    """
    columns = list(columns)
    found = {}
    for wanted in conditions:
        same = [wanted] if wanted in columns else [column for column in columns if key_of(column) == key_of(wanted)]
        if len(same) > 1:
            raise UserError(f"data.where: {wanted!r} may be the column {' or '.join(map(repr, same))} of {name}.")
        if not same:
            known = ", ".join(map(escaped, columns)) or "none"
            raise UserError(f"data.where: {name} has no column {wanted!r}.{nearest(wanted, columns)} Columns: {known}")
        found[wanted] = same[0]
    return found


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
    columns: dict[str, None] = dict.fromkeys(OWN_COLUMNS)
    tables: set[int] = set()
    for row in rows:
        names = row.cells.places if isinstance(row.cells, Cells) else row.cells
        if id(names) not in tables:  # the rows of a table share one mapping
            tables.add(id(names)) if isinstance(row.cells, Cells) else None
            columns.update(dict.fromkeys(names))
    place = find_columns(conditions, columns, name)
    selected = [
        row for row in rows if _is_table(row) or all(_cell(row, place[c]) in values for c, values in conditions.items())
    ]
    if all(map(_is_table, selected)):
        values = "; ".join(
            f"{c} has {', '.join(map(escaped, sorted({_cell(row, place[c]) for row in rows})[:12]))}"
            for c in conditions
        )
        raise UserError(f"data.where={text} selects none of the {len(rows)} rows of {name}: {values}.")
    return selected


def _is_table(row: LabelRow) -> bool:
    """Whether the row stands for a whole table that cannot be read."""
    return bool(row.refused) and not row.cells


def _cell(row: LabelRow, column: str) -> str:
    """The cell of a column of the table, else of one of OWN_COLUMNS."""
    text = row.cells.get(column, "")
    if text or column not in OWN_COLUMNS:
        return text
    return (row.labels[0] if row.labels else "") if column == "label" else getattr(row, column)
