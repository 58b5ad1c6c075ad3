"""Text tables (CSV, `;` or tab-separated) in any common encoding, read as cells of text."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped


@dataclass(frozen=True)
class Table:
    """A table as text cells."""

    name: str  # of the file
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]  # (row number as a spreadsheet shows it, cells by column)

    def column(self, wanted: Sequence[str]) -> str:
        """The first of `wanted` that the table has, exactly or else ignoring case; "" if it has none."""
        lower = {name.lower(): name for name in reversed(self.columns)}
        for name in wanted:
            if name in self.columns:
                return name
        return next((lower[name.lower()] for name in wanted if name.lower() in lower), "")


def read_text(path: Path, notes: list[str]) -> str:
    """Text of a file in UTF-8, UTF-16, Windows-1252 or Latin-1; all but UTF-8 add a remark to `notes`."""
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        notes.append(f"{escaped(path.name)} was read as UTF-16.")
        return raw.decode("utf-16", "replace")
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding != "utf-8-sig":
            notes.append(f"{escaped(path.name)} is not UTF-8; it was read as {encoding}.")
        return text
    notes.append(f"{escaped(path.name)} is not UTF-8; it was read as latin-1.")
    return raw.decode("latin-1")


def read_table(path: Path, notes: list[str], delimiter: str = "") -> Table:
    """Read a table with a header line.

    Args:
        path: The file.
        notes: List that remarks on its encoding are added to.
        delimiter: Character between cells. Default: the most frequent of `,`, `;` and tab in the header line.

    Returns:
        The table, without empty lines.

    Raises:
        UserError: The file is empty or not a table.
    """
    text = read_text(path, notes)
    head = text.split("\n", 1)[0]
    delimiter = delimiter or max(",;\t", key=head.count)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        columns = tuple(cell.strip() for cell in next(lines, []))
        rows = []
        for cells in lines:
            if any(cell.strip() for cell in cells):
                padded = [*cells, *[""] * (len(columns) - len(cells))]
                rows.append((lines.line_num, dict(zip(columns, map(str.strip, padded), strict=False))))
    except csv.Error as error:
        raise UserError(f"{escaped(path)} must be a CSV table ({error}).") from None
    if not any(columns):
        raise UserError(f"{escaped(path)} must be a CSV table with a header line; it is empty.")
    return Table(path.name, columns, tuple(rows))
