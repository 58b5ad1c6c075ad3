"""Text tables (separated by commas, semicolons or tabs) in any common encoding, read row by row as cells of text.

A first line `sep=;` (of spreadsheets) names the separator. A row with more cells than the header, or with a quotation
mark that is never closed, is returned with its problem, and the rows after it are read.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.tables import columns as names

SEPARATORS = ",;\t"
_SEP_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_CHUNK = 1 << 20
_N_INTERNED = 1 << 16  # equal cells share one string; beyond so many different ones the others are forgotten


class Cells(Mapping[str, str]):
    """The cells of a row by column, without empty ones: a mapping that takes little memory in large tables.

    Args:
        places: Column -> position in `values`; shared by all rows of a table.
        values: One cell per column.
    """

    __slots__ = ("places", "texts")

    def __init__(self, places: Mapping[str, int], values: tuple[str, ...]) -> None:
        self.places, self.texts = places, values

    def __getitem__(self, column: str) -> str:
        if value := self.texts[self.places[column]]:
            return value
        raise KeyError(column)

    def get(self, column: str, default: str = "") -> str:  # type: ignore[override]  # Mapping.get gives None
        """The cell of a column; `default` where it is empty or there is no such column."""
        place = self.places.get(column)
        return default if place is None else self.texts[place] or default

    def __iter__(self) -> Iterator[str]:
        return (column for column, place in self.places.items() if self.texts[place])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


class Row(NamedTuple):
    """One row of a table."""

    number: int  # of its (first) line in the file, from 1
    cells: Cells
    problem: str = ""  # why the row cannot be used; "" = none


@dataclass(frozen=True)
class Table:
    """A table of which the header was read; `rows` reads the others."""

    path: Path
    columns: tuple[str, ...]
    delimiter: str = ","
    encoding: str = "utf-8-sig"
    errors: str = "strict"
    n_skipped: int = 0  # lines before the header
    quoted: bool = True  # cells may be quoted, and may then hold line breaks

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name

    def rows(self) -> Iterator[Row]:
        """Read the rows after the header, without empty lines, in constant memory.

        Yields:
            The rows; cells are stripped, missing ones at the end of a line are empty.
        """
        width = len(self.columns)
        places = {name: place for place, name in enumerate(self.columns) if name}
        shared: dict[str, str] = {}
        for number, cells, problem in self._records(1):
            if len(cells) > width:
                extra = [cell for cell in cells[width:] if cell.strip()]
                if extra and not problem:
                    problem = (
                        f"it has {len(cells)} cells, and the header {width}; put cells that hold "
                        f"{'a tab' if self.delimiter == chr(9) else self.delimiter!r} in quotation marks."
                    )
            if len(shared) > _N_INTERNED:
                shared.clear()
            values = [shared.setdefault(cell, cell) for cell in map(str.strip, cells[:width])]
            if any(values) or problem:
                yield Row(number, Cells(places, tuple(values) + ("",) * (width - len(values))), problem)

    def column(self, keys: Sequence[str]) -> str:
        """The column with the first of `keys` (columns.key_of); "" when none has one."""
        return names.find(self.columns, keys)

    def _records(self, n_skipped: int = 0) -> Iterator[tuple[int, list[str], str]]:
        """(line number, cells, problem) of each record after `n_skipped` of them."""
        with open(self.path, encoding=self.encoding, errors=self.errors, newline="") as file:
            lines = _Lines(file)
            for _ in range(self.n_skipped):
                next(lines, None)
            for index, record in enumerate(self._parsed(lines)):
                if index >= n_skipped:
                    yield record

    def _parsed(self, lines: "_Lines") -> Iterator[tuple[int, list[str], str]]:
        width = len(self.columns)
        for line in lines:
            if not line or line.isspace():
                continue
            if '"' not in line:
                yield lines.number, line.split(self.delimiter), ""
            elif not self.quoted:
                yield lines.number, [_unquoted(cell) for cell in line.split(self.delimiter)], ""
            elif line.count('"') % 2 == 0:
                yield lines.number, *self._cells(line)
            else:
                number, end, more = lines.number, lines.end, lines.until_closed()
                inner = [one.count(self.delimiter) + 1 for one in more[:-1] or more]
                cells, problem = self._cells((line + end + "".join(more)).rstrip("\r\n")) if more else ([], "open")
                if problem or (width > 1 and max(inner, default=0) >= width):
                    lines.put_back(more)
                    cells = line.split(self.delimiter)
                    problem = "a quotation mark in it is not closed; close it, or double it inside a quoted cell."
                yield number, cells, problem

    def _cells(self, text: str) -> tuple[list[str], str]:
        try:
            lines = [line + "\n" for line in text.split("\n")]
            return next(csv.reader(lines, delimiter=self.delimiter, strict=True), []), ""
        except csv.Error:
            problem = "its quotation marks are not those of a CSV table; double each one inside a quoted cell."
            return text.split(self.delimiter), problem


class _Lines:
    """Lines without line ends, numbered from 1; lines can be put back.

    The end of the last line is in `end`: inside a quoted cell it is part of a name, as a carriage return may be.
    """

    longest_record = 1000  # lines within one quoted cell

    def __init__(self, file: Iterator[str]) -> None:
        self.file, self.number, self.end = file, 0, ""
        self.waiting: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        whole = self.waiting.pop() if self.waiting else next(self.file)
        line = whole.rstrip("\r\n")
        self.end = whole[len(line) :]
        self.number += 1
        return line

    def put_back(self, lines: Sequence[str]) -> None:
        self.waiting += reversed(lines)
        self.number -= len(lines)

    def until_closed(self) -> list[str]:
        """The lines and their ends up to the next one with an odd number of quotation marks; [] when there is none."""
        found: list[str] = []
        for line in self:
            found.append(line + self.end)
            if line.count('"') % 2:
                return found
            if len(found) > self.longest_record:
                break
        self.put_back(found)
        return []


def _unquoted(cell: str) -> str:
    """A cell that a spreadsheet quoted because of a character in it; other quotation marks belong to the cell."""
    text = cell.strip()
    inner = text[1:-1]
    spread = len(text) > 1 and text[0] == text[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if spread and any(c in inner for c in ',;"') else cell


def detect_encoding(path: Path, notes: list[str]) -> str:
    """Encoding of a text file: UTF-8, UTF-16, Windows-1252 or Latin-1; all but UTF-8 add a remark to `notes`."""
    with open(path, "rb") as file:
        head = file.read(_CHUNK)
        zeros = head[1:200:2].count(0), head[0:200:2].count(0)
        encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        if not encoding and max(zeros) > len(head[:200]) // 4:
            encoding = "utf-16-le" if zeros[0] > zeros[1] else "utf-16-be"
        if encoding:
            _remark(f"{escaped(path.name)} was read as UTF-16.", notes)
            return encoding
        for encoding in ("utf-8-sig", "cp1252"):
            file.seek(0)
            decoder = codecs.getincrementaldecoder(encoding)()
            try:
                while chunk := file.read(_CHUNK):
                    decoder.decode(chunk)
                decoder.decode(b"", True)
            except UnicodeDecodeError:
                continue
            if encoding != "utf-8-sig":
                _remark(f"{escaped(path.name)} is not UTF-8; it was read as {encoding}.", notes)
            return encoding
    _remark(f"{escaped(path.name)} is not UTF-8; it was read as latin-1.", notes)
    return "latin-1"


def _remark(text: str, notes: list[str]) -> None:
    if text not in notes:
        notes.append(text)


def read_text(path: Path, notes: list[str]) -> str:
    """Text of a whole file in any encoding of `detect_encoding`, with Unix line ends."""
    return path.read_text(encoding=detect_encoding(path, notes), errors="replace")


def open_table(path: Path, notes: list[str], *, keep_bytes: bool = False, raven: bool = False) -> Table:
    """Read the header of a table.

    Args:
        path: The file.
        notes: List that remarks on its encoding are added to.
        keep_bytes: Whether bytes that are not UTF-8 are kept as surrogates, as in file names. Default: the encoding is
            detected.
        raven: Whether the table is one of Raven, which never quotes the cells of a tab-separated table.

    Returns:
        The table; its separator is the one of the line `sep=`, else the one of `,`, `;` and tab that gives the most
        cells in the header.

    Raises:
        UserError: The file is empty, cannot be read, or two of its columns have one name.
    """
    try:
        encoding = "utf-8-sig" if keep_bytes else detect_encoding(path, notes)
        errors = "surrogateescape" if keep_bytes else "replace" if encoding.startswith("utf-16") else "strict"
        whole_lines = Table(path, (), "\0", encoding, errors, quoted=False)
        first = next(whole_lines._records(), (0, [""], ""))[1][0].lstrip("\ufeff ").rstrip(" ")
        named = _SEP_LINE.fullmatch(first)
        skipped = 1 if named else 0
        kinds = [
            Table(path, (), separator, encoding, errors, skipped, not (raven and separator == "\t"))
            for separator in (named[1] if named else SEPARATORS)
        ]
        headers = [next(kind._records(), (0, [], "")) for kind in kinds]
    except OSError as error:
        raise UserError(f"{escaped(path)} cannot be read ({error.strerror}).") from None
    table, (_, cells, problem) = max(
        zip(kinds, headers, strict=True), key=lambda pair: (not pair[1][2], _n_known(pair[1][1]), len(pair[1][1]))
    )
    columns = tuple(cell.strip().lstrip("\ufeff") for cell in cells)
    while columns and not columns[-1]:
        columns = columns[:-1]
    if not columns:
        raise UserError(f"{escaped(path)} must be a CSV table with a header line; it is empty.")
    if problem:
        raise UserError(f"{escaped(path)} must have a header line with names of columns; {problem}")
    twice = next((name for place, name in enumerate(columns) if name and name in columns[:place]), "")
    if twice:
        raise UserError(f"{escaped(path)} has two columns called {escaped(twice)!r}; rename or delete one of them.")
    return Table(path, columns, table.delimiter, encoding, errors, skipped, table.quoted)


def _n_known(columns: Sequence[str]) -> int:
    return sum(names.key_of(name.strip()) in names.PATHS for name in columns)
