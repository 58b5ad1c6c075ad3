"""Times in the cells of a table, as seconds or samples in a recording.

Numbers may have decimal commas where a comma does not separate cells. A table has one kind of decimal mark: after a
time with a point, one with a comma is refused, and the reverse. Clock times such as 00:01:02 are refused.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from birdnet_fs.core.text import escaped
from birdnet_fs.data.tables.columns import SAMPLES, SECONDS, UNIT_NAMES, TimeColumns, words_of

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)


class Times(NamedTuple):
    """Start and end of a row; None = not given."""

    onset: float | None = None
    offset: float | None = None
    problems: tuple[str, ...] = ()  # what is wrong with the cells, one sentence each


NO_TIMES = Times()
_MARKS = {",": "comma", ".": "point"}


class TimeReader:
    """Reads the times of the rows of one table, in order.

    Args:
        columns: Columns of the times.
        delimiter: Separator of the cells of the table.
        open_ended: Whether a row may have a start without an end, as in a manifest.csv. Default: False.
    """

    def __init__(self, columns: TimeColumns, delimiter: str, *, open_ended: bool = False) -> None:
        self.columns, self.open_ended = columns, open_ended
        self.decimal_comma = delimiter != ","
        self.mark = ""  # the decimal mark of the table, once one was read
        self.in_samples = bool(columns.onset) and words_of(columns.onset)[1] == SAMPLES

    def read(self, cells: Mapping[str, str]) -> Times:
        """Times of a row; times in samples are numbers of samples (`in_samples`).

        Args:
            cells: The cells of the row by column.

        Returns:
            The times and the problems of the row.
        """
        names = self.columns
        return self.read_pair(cells.get(names.onset, ""), cells.get(names.end, "")) if names.onset else NO_TIMES

    def read_pair(self, start: str, end: str) -> Times:
        """Times of two cells, of the columns `onset` and `end`; as in `read`."""
        if not start and not end:
            return NO_TIMES
        names = self.columns
        onset, problem = self.number(start, "onset", names.onset)
        what = "duration" if names.duration else "offset"
        offset, more = self.number(end, what, names.end)
        if problem or more:
            return Times(onset, None, tuple(filter(None, (problem, more))))
        if (onset is None or offset is None) and not (self.open_ended and offset is None):
            given, lacking = ("end", "start") if onset is None else ("start", what.replace("offset", "end"))
            return Times(onset, None, (f"its {lacking} is empty, but its {given} is not; give both or neither.",))
        if names.duration and offset is not None:
            offset = round((onset or 0.0) + offset, 9)
        if offset is not None and offset <= (onset or 0.0):
            unit = " samples" if self.in_samples else " s"
            problem = f"its end ({offset:.12g}{unit}) must be later than its start ({onset or 0.0:.12g}{unit})."
            return Times(onset, None, (problem,))
        return Times(onset, offset)

    def number(self, text: str, what: str, column: str) -> tuple[float | None, str]:
        """Read one time.

        Args:
            text: The cell.
            what: Name of the time ("onset", "offset" or "duration"), for the message.
            column: Name of the column, which gives the unit.

        Returns:
            (value, problem): seconds, or samples where that is the unit; None for an empty cell or one with a problem.
        """
        if not text:
            return None, ""
        unit = words_of(column)[1] or "s"
        value = math.nan
        if _NUMBER.fullmatch(text):
            mark = "," if "," in text else "." if "." in text else ""
            if mark == "," and not self.decimal_comma:
                return None, f"its {what} must have a decimal point. Received: {escaped(text)!r}."
            if mark and self.mark and mark != self.mark:
                return None, (
                    f"its {what} has a decimal {_MARKS[mark]}, and times above it have a {_MARKS[self.mark]}; use "
                    f"one of them in the whole table. Received: {escaped(text)!r}."
                )
            self.mark = self.mark or mark
            value = float(text if mark != "," else text.replace(",", "."))
        if not 0 <= value < math.inf:
            hint = " Clock times are not read; convert them." if ":" in text else ""
            return None, f"its {what} must be {UNIT_NAMES[unit]}, 0 or more.{hint} Received: {escaped(text)!r}."
        factor = SECONDS.get(unit, 1.0)
        return (value if factor == 1.0 else round(value * factor, 9)) + 0.0, ""
