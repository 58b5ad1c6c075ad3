"""Meaning of the columns of a table by their names; case, spaces, underscores, hyphens and units do not matter.

`start`, `Start Time (s)`, `onset_s`, `Begin Time (s)` and `T_START_MS` are all starts. A unit at the end of a name, in
brackets or not, is that of the times: seconds (the default), milliseconds, minutes, hours or samples of the recording.
"""

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

SAMPLES = "samples"
SECONDS = {"s": 1.0, "ms": 0.001, "min": 60.0, "h": 3600.0}  # of one unit
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "min": "minutes", "h": "hours", SAMPLES: "samples"}
_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("sample", "samples"), SAMPLES),
}

_AUDIO = ("audio", "recording", "sound", "wav")
_NAMES = ("file", "filename", "filepath", "path", "name")
# keys of columns of audio files, in the order of preference
PATHS: tuple[str, ...] = ("path", "filepath", "filename", "file", "infile", "beginpath", "beginfile", "fname")
PATHS = (*PATHS, "relativepath", "relpath", "fullpath", "abspath", "absolutepath")
PATHS = (*PATHS, *(f"{sound}{name}" for sound in _AUDIO for name in ("", *_NAMES)), "sourcefile")
FOLDERS = ("folder", "subfolder", "directory", "dir", "subdir", "subdirectory", "foldername")
ROOTS = ("indir",)  # Kaleidoscope: folder on the computer that wrote the table, to which FOLDER is relative
LABELS: tuple[str, ...] = ("label", "primarylabel", "species", "class", "classname", "commonname", "scientificname")
LABELS = (*LABELS, "ebirdcode", "speciescode", "speciesebirdcode", "speciesname", "category", "annotation")
LABELS = (*LABELS, "manualid", "birdname", "bird")
SEARCH = ("rank", "recording", "start_s", "end_s", "score", "query", "label")  # of a table of birdnet-fs search
SECONDARY = ("secondarylabels", "secondary", "secondarylabel")

_STARTS, _ENDS = frozenset({"start", "starts", "begin", "begins", "onset"}), frozenset({"end", "ends", "stop", "stops"})
_OFFSETS, _DURATIONS = frozenset({"offset"}), frozenset({"duration", "dur", "length", "len"})
_NO_MEANING = frozenset({"time", "times", "t", "clip", "segment", "seg", "event", "call", "annotation", "selection"})
_NO_MEANING |= {"box", "window", "chunk", "vocalization", "vocalisation", "song", "syllable", "relative", "rel", "in"}
_NO_MEANING |= {"of", "the", "detection"}
_WHOLE_NAMES = {"from": "start", "tmin": "start", "mint": "start", "to": "end", "tmax": "end", "maxt": "end"}
_CLOCK = frozenset({"date", "datetime", "clock", "day", "month", "year", "zone", "utc", "local"})
_CLOCK |= {"file", "path", "dir", "folder", "rate", "freq", "frequency", "hz"}  # not times in a recording
_TIME_WORDS = _STARTS | _ENDS | _OFFSETS | {"duration", "dur", "time", "times", "timestamp", "t", "sec", "secs", "ms"}
_TIME_WORDS |= {"second", "seconds", "millisecond", "milliseconds"}
_COMPOUND = re.compile(r"(start|begin|onset|end|stop|offset)(times?|sec|seconds?|ms)|(times?|t)(start|begin|onset|end)")


@functools.lru_cache(4096)
def words_of(name: str) -> tuple[tuple[str, ...], str]:
    """Words of a column name in lower case, and the unit that it ends with.

    Args:
        name: The name as it is written.

    Returns:
        (words, unit): unit is a key of `UNIT_NAMES`, or "" when the name has none.

    >>> words_of("Begin Time (s)"), words_of("startMs"), words_of("MANUAL ID*")
    ((('begin', 'time'), 's'), (('start',), 'ms'), (('manual', 'id'), ''))
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).casefold()
    words = [word for word in re.split(r"[\W_]+", spaced) if word]
    split = [part for word in words for part in _parts(word)]
    unit = _UNITS.get(split[-1], "") if len(split) > 1 else ""
    while unit and len(split) > 1 and _UNITS.get(split[-1]) == unit:
        split.pop()
    return tuple(split), unit


def _parts(word: str) -> list[str]:
    compound = _COMPOUND.fullmatch(word)
    return [part for part in compound.groups() if part] if compound else [word]


@functools.lru_cache(4096)
def key_of(name: str) -> str:
    """The name without case, spaces, underscores, hyphens and unit: two names with one key are the same.

    >>> key_of("Begin Time (s)") == key_of("begin_time_s") == key_of("BeginTime") == "begintime"
    True
    """
    return "".join(words_of(name)[0])


def find(columns: Iterable[str], keys: Sequence[str]) -> str:
    """The column with the first of `keys` that any column has; "" when none has one.

    Args:
        columns: Names of columns.
        keys: Keys in the order of preference.

    Returns:
        Name of the column. Of two columns with one key, the first.
    """
    by_key = {key_of(name): name for name in reversed(list(columns)) if name}
    return next((by_key[key] for key in keys if key in by_key), "")


def is_selection_table(columns: Sequence[str]) -> bool:
    """Whether the columns are those of a Raven selection table: Selection and Begin Time."""
    return {"selection", "begintime"} <= {key_of(name) for name in columns}


def is_search_table(columns: Iterable[str]) -> bool:
    """Whether the columns are those of a table of `birdnet-fs search`, whose rows are windows that a person labels."""
    return {key_of(name) for name in SEARCH} <= {key_of(name) for name in columns}


def is_selection_header(line: str) -> bool:
    """Whether the first line of a text file is that of a Raven selection table, whatever separates its cells."""
    return "begintime" in re.sub(r"[\W_]+", "", line.lower())


@dataclass(frozen=True)
class TimeColumns:
    """The columns of times of a table; "" = none."""

    onset: str = ""
    offset: str = ""
    duration: str = ""  # used when there is no offset

    @property
    def end(self) -> str:
        """The column of the end or, when there is none, of the duration."""
        return self.offset or self.duration

    @property
    def used(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(filter(None, (self.onset, self.offset, self.duration)))


def _role(name: str) -> str:
    key = "".join(re.split(r"[\W_]+", name.casefold()))
    if key in _WHOLE_NAMES:
        return _WHOLE_NAMES[key]
    words = set(words_of(name)[0]) - _NO_MEANING
    roles = {"start": _STARTS, "end": _ENDS, "offset": _OFFSETS, "duration": _DURATIONS}
    return next((role for role, known in roles.items() if len(words) == 1 and words <= known), "")


def time_columns(columns: Sequence[str], table: str) -> TimeColumns:
    """Find the columns of start and end, or of start and duration.

    `offset` is an end beside a start, and a start beside a duration alone (Kaleidoscope). Of columns in several units,
    those in seconds are used.

    Args:
        columns: Columns of a table.
        table: Name of the table, for messages.

    Returns:
        The columns; all are "" when the table has no times.

    Raises:
        UserError: There is a start without an end or the reverse, two columns give the same time, the units cannot be
            combined, or there are times of a start and an end whose names are not known.
    """
    by_role: dict[str, list[str]] = {"start": [], "end": [], "offset": [], "duration": []}
    for name in columns:
        if role := _role(name):
            by_role[role].append(name)
    starts, ends, durations = by_role["start"], by_role["end"], by_role["duration"]
    if not starts and not ends and durations:
        starts = by_role["offset"]
    elif not ends:
        ends = by_role["offset"]
    name = escaped(table)
    if not starts and not ends:
        odd = unused_times(columns, TimeColumns())
        if any(set(words_of(c)[0]) & _STARTS for c in odd) and any(
            set(words_of(c)[0]) & (_ENDS | _OFFSETS) for c in odd
        ):
            raise UserError(
                f"{name} seems to have times in the columns {_listed(odd)}, in a unit or under names that are not "
                "known; rename them to start and end, with the unit in the name unless it is seconds, as start_ms."
            )
        return TimeColumns()
    if not starts or not (ends or durations):
        have, lack, found = ("start", "end", starts) if starts else ("end", "start", ends)
        raise UserError(
            f"{name} has {have} times (column {_listed(found)}) but no {lack} times; add a column {lack}"
            f"{' or duration' if starts else ''}. Columns: {', '.join(map(escaped, columns))}"
        )
    onset = _one_of(starts, "start", name)
    offset = _one_of(ends, "end", name) if ends else ""
    duration = "" if ends else _one_of(durations, "duration", name)
    if (_unit(onset) == SAMPLES) != (_unit(offset or duration) == SAMPLES):
        raise UserError(
            f"{name} has times in samples and in another unit in the columns {_listed([onset, offset or duration])}; "
            "both must be in samples or neither."
        )
    return TimeColumns(onset, offset, duration)


def _unit(column: str) -> str:
    return words_of(column)[1] or "s"


def _one_of(found: list[str], what: str, table: str) -> str:
    for unit in UNIT_NAMES:
        same = [name for name in found if _unit(name) == unit]
        if len(same) > 1:
            raise UserError(f"{table} has several columns of the {what}: {_listed(same)}; rename all but one of them.")
        if same:
            return same[0]
    raise AssertionError(found)


def unused_times(columns: Iterable[str], times: TimeColumns) -> list[str]:
    """Columns that seem to hold times in the recording and are not used: not dates, clock times or frequencies.

    Args:
        columns: Columns of a table.
        times: The columns of times that are used.

    Returns:
        The names, in their order. A duration beside start and end is not one of them.
    """
    rest = [name for name in columns if name not in times.used and not (times.used and _role(name) == "duration")]
    return [name for name in rest if (words := set(words_of(name)[0])) & _TIME_WORDS and not words & _CLOCK]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(escaped(name)) for name in names)
