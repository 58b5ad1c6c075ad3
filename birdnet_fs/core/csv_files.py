r"""Writing of CSV files whose rows survive every name.

The csv module of Python before 3.13 quotes only the line ends that it writes itself: with line ends `\n`, a carriage
return in a name is left unquoted and readers end the row there. It is therefore given `\r\n` as its line end, so that
it quotes both characters, and each row is written with `\n`.
"""

import csv
from collections.abc import Sequence
from typing import Any, Protocol


class _TextFile(Protocol):
    def write(self, text: str, /) -> Any: ...


class _UnixLines:
    """File for csv.writer, which writes one row per call."""

    def __init__(self, file: _TextFile) -> None:
        self._file = file

    def write(self, row: str) -> None:
        r"""Write a row that ends in `\r\n` with the end `\n`."""
        self._file.write(row[:-2] + "\n")


def csv_writer(file: _TextFile, *, delimiter: str = ",") -> Any:
    r"""Create a `csv.writer` that quotes carriage returns and ends rows with `\n`.

    Args:
        file: Text file opened with newline="", or another object with a method write(text).
        delimiter: Character between cells. Default: a comma.

    Returns:
        Writer with the methods `writerow` and `writerows`.

    >>> import io
    >>> text = io.StringIO()
    >>> csv_writer(text).writerow(["a\rb.wav", 1])
    >>> text.getvalue()
    '"a\rb.wav",1\n'
    """
    return csv.writer(_UnixLines(file), delimiter=delimiter, lineterminator="\r\n")


def csv_dict_writer(file: _TextFile, columns: Sequence[str]) -> Any:
    """Create a `csv.DictWriter` with the rules of `csv_writer`; missing cells are empty.

    Args:
        file: Text file opened with newline="", or another object with a method write(text).
        columns: Names of the columns, in order.

    Returns:
        Writer with the methods `writeheader`, `writerow` and `writerows`.
    """
    return csv.DictWriter(_UnixLines(file), columns, restval="", lineterminator="\r\n")
