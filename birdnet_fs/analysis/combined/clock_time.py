r"""Start of a recording by the clock, from its name and the metadata of its recorder; never guessed.

Names: `20240501_053000.WAV` (AudioMoth, also with `T` of triggered recordings), `PREFIX_20240501_053000.wav` and
`PREFIX_0+1_20240501$053000.wav` (Song Meter and other recorders of Wildlife Acoustics), and ISO 8601 with or without an
offset (`20240501T053000Z.wav`, `20240501T053000+0200_REC.flac` of Frontier Labs, `2024-05-01T05-30-00.wav`). Metadata:
the Timestamp of GUANO, and the comment of AudioMoth (recorder_metadata.py).

A time is left empty, with the reason, where it can be read in two ways: two times in a name, a date that does not begin
with the year, digits after the time (a part of a recording begins later), a local time that the clocks passed twice or
never, and a name that contradicts the metadata. So is that of a recording whose seconds are not those of the clock.
"""

import re
import zoneinfo
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path

from birdnet_fs.analysis.combined.recorder_metadata import RecorderMetadata, recorder_metadata
from birdnet_fs.core.errors import UserError, nearest

_STAMP = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<a>[-_.]?)(?P<month>\d\d)(?P=a)(?P<day>\d\d)"
    r"(?P<t>[T_ $-]?)(?P<hour>\d\d)(?P<b>[-_.:]?)(?P<minute>\d\d)(?P=b)(?P<second>\d\d)"
    r"(?P<zone>(?<=\d)(?:Z|[+-]\d\d:?\d\d))?(?!\d)"
)
_OTHER_ORDER = re.compile(
    r"(?<!\d)(?:\d{6}|\d{8})[T_ $-]\d{6}(?!\d)|(?<!\d)\d\d[-_.]\d\d[-_.](?:(?:19|20)\d\d|\d\d)(?!\d)"
)
_SUFFIX = re.compile(r"T?(?:[_ -]?[A-Za-z]{2,})*(?:[_ ]?\[[^\]]*\])?")  # T: triggered; words; coordinates in brackets
_COMMENT = re.compile(
    r"Recorded at (\d\d):(\d\d):(\d\d)(?:\.\d+)? (\d\d)/(\d\d)/(\d{4}) \(UTC(?:([+-])(\d{1,2})(?::(\d\d))?)?\)"
)
_OFFSET = re.compile(r"(?:UTC)?([+-])(\d{1,2})(?::?(\d\d))?")
_OTHER_SECONDS = ("time_axis_unreliable", "joined")  # flags of audio.read
_SAME_S = 1.0  # seconds by which name and metadata may differ: metadata may hold fractions
_LARGEST_OFFSET_H = 14


@dataclass(frozen=True)
class ClockTime:
    """Start of a recording by the clock.

    Attributes:
        start: The start, with its time zone or, where none is known, without; None where it is not known.
        problem: Reason for an unknown start, as the end of a sentence; "" otherwise.
    """

    start: datetime | None
    problem: str = ""

    def at(self, seconds: float) -> datetime | None:
        """The time `seconds` after the start, in the same zone, across a change of the clocks; None where unknown."""
        if self.start is None:
            return None
        if self.start.tzinfo is None:
            return self.start + timedelta(seconds=seconds)
        return (self.start.astimezone(UTC) + timedelta(seconds=seconds)).astimezone(self.start.tzinfo)


def time_zone(name: str) -> tzinfo | None:
    """The time zone of a name.

    Args:
        name: Name of the IANA database (`Europe/Zurich`), `UTC`, or an offset (`+02:00`, `UTC+2`); "" = none.

    Returns:
        The zone, or None for "".

    Raises:
        UserError: There is no such zone.

    >>> str(time_zone("+05:30")), time_zone("")
    ('UTC+05:30', None)
    """
    if not name:
        return None
    if name.upper() in ("UTC", "Z"):
        return UTC
    if found := _OFFSET.fullmatch(name):
        sign, hours, minutes = found.groups()
        return _offset(sign, hours, minutes, f"The time zone {name!r}")
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = zoneinfo.available_timezones()
        if not known:
            raise UserError(
                "This system has no time zone database; install it with `pip install tzdata`, or give an offset such "
                "as +02:00."
            ) from None
        raise UserError(
            f"The time zone must be a name such as Europe/Zurich, UTC, or an offset such as +02:00. Received: {name!r}."
            f"{nearest(name, sorted(known))}"
        ) from None


def name_time(stem: str) -> ClockTime:
    """The start that a name states.

    Args:
        stem: Name of the recording without its extension.

    Returns:
        The time, with a zone where the name has one.

    >>> name_time("SITE1_20240501_053000").start.isoformat()
    '2024-05-01T05:30:00'
    >>> name_time("20240501T053000+0200_REC").start.isoformat()
    '2024-05-01T05:30:00+02:00'
    >>> name_time("01052024_053000").problem
    'the name holds a date that does not begin with the year: day and month cannot be distinguished'
    """
    found = list(_STAMP.finditer(stem))
    if not found:
        order = "the name holds a date that does not begin with the year: day and month cannot be distinguished"
        return ClockTime(None, order if _OTHER_ORDER.search(stem) else "the name holds no date and time")
    if len(found) > 1:
        return ClockTime(None, "the name holds more than one time")
    parts = found[0].groupdict()
    zone, rest = parts["zone"] or "", stem[found[0].end() :]
    if zone not in ("", "Z") and parts["t"] != "T":  # a number after a hyphen
        zone, rest = "", zone + rest
    if not _SUFFIX.fullmatch(rest):
        return ClockTime(None, f"the name goes on with {rest!r} after the time, as names of parts of recordings do")
    return _made(*(int(parts[key]) for key in ("year", "month", "day", "hour", "minute", "second")), zone=zone)


def metadata_times(metadata: RecorderMetadata) -> list[ClockTime]:
    """The starts that the metadata of the recorder state; one that cannot be read has a problem."""
    times = []
    if stamp := metadata.guano.get("Timestamp"):
        try:
            times.append(ClockTime(datetime.fromisoformat(stamp)))
        except ValueError:
            times.append(ClockTime(None, f"the Timestamp {stamp[:40]!r} of its GUANO metadata is not ISO 8601"))
    if found := _COMMENT.search(metadata.comment):
        hour, minute, second, day, month, year, sign, hours, minutes = found.groups()
        zone = f"{sign}{int(hours):02d}:{minutes or '00'}" if sign else "Z"
        times.append(_made(*map(int, (year, month, day, hour, minute, second)), zone=zone))
    return times


def recording_start(
    path: Path, zone: tzinfo | None = None, recorder_zone: tzinfo | None = None, flags: Collection[str] = ()
) -> ClockTime:
    """The start of a recording.

    Args:
        path: The recording; its metadata are read where it is there.
        zone: Zone in which the start is given, and in which the clock of the recorder ran where neither the name nor
            the metadata state it. Default: None, as they state it.
        recorder_zone: Zone in which the clock of the recorder ran. Default: None, `zone`.
        flags: Flags of the recording in the ledger: with time_axis_unreliable or joined, seconds in it are not seconds
            by the clock, and no time is given. Default: none.

    Returns:
        The start; without a zone where none is known.
    """
    if any(flag.partition("=")[0] in _OTHER_SECONDS for flag in flags):
        return ClockTime(None, "audio is missing within it, or several recordings are joined in it")
    named, stated = name_time(path.stem), metadata_times(recorder_metadata(path))
    if wrong := next((each for each in stated if each.start is None), None):
        return wrong
    times = [each.start for each in (*stated, named) if each.start is not None]
    if not times:
        return named
    if any(not _agree(times[0], other) for other in times[1:]):
        said = " and ".join(dict.fromkeys(each.isoformat() for each in times))
        return ClockTime(None, f"its name and its metadata contradict each other ({said})")
    start = next((each for each in times if each.tzinfo is not None), times[0])
    clock = recorder_zone or zone
    if start.tzinfo is None and clock is not None:
        start, local = start.replace(tzinfo=clock), start
        if start.utcoffset() != start.replace(fold=1).utcoffset():
            return ClockTime(
                None,
                f"the clocks of {clock} passed {local.isoformat()} twice or never; give the offset of the recorder's "
                "clock, such as +01:00",
            )
    return ClockTime(start.astimezone(zone) if zone is not None and start.tzinfo is not None else start)


def _agree(one: datetime, other: datetime) -> bool:
    """Whether two times are the same instant or, where one has no zone, the same local time."""
    if (one.tzinfo is None) != (other.tzinfo is None):
        one, other = one.replace(tzinfo=None), other.replace(tzinfo=None)
    return abs((one - other).total_seconds()) <= _SAME_S


def _made(year: int, month: int, day: int, hour: int, minute: int, second: int, *, zone: str) -> ClockTime:
    try:
        start = datetime(year, month, day, hour, minute, second)
    except ValueError:
        return ClockTime(None, "there is no such date and time as that of its name or comment")
    if not zone:
        return ClockTime(start)
    if zone == "Z":
        return ClockTime(start.replace(tzinfo=UTC))
    sign, hours, minutes = zone[0], zone[1:3], zone[-2:]
    try:
        return ClockTime(start.replace(tzinfo=_offset(sign, hours, minutes, "The offset")))
    except UserError:
        return ClockTime(None, f"{zone!r} after its time is no offset from UTC")


def _offset(sign: str, hours: str, minutes: str | None, what: str) -> tzinfo:
    shift = timedelta(hours=int(hours), minutes=int(minutes or 0))
    if shift > timedelta(hours=_LARGEST_OFFSET_H) or int(minutes or 0) % 15:
        raise UserError(f"{what} must be at most 14 hours from UTC, in quarters of an hour.")
    return timezone(-shift if sign == "-" else shift)
