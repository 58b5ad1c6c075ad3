"""Times, names and rows as text, shared by all output tables."""

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.text import escaped

TOLERANCE_UNITS = 1e-3  # of a unit: 4.35 s in binary is a little less than 435 hundredths


def split_label(label: str) -> tuple[str, str]:
    """Split a class name into (scientific name, common name).

    `Scientific name_Common name` is split at its first underscore. A name without one, or one that does not start with
    a capital letter as scientific names do, is returned as both.

    >>> split_label("Turdus merula_Eurasian Blackbird")
    ('Turdus merula', 'Eurasian Blackbird')
    >>> split_label("bird0_8")
    ('bird0_8', 'bird0_8')
    """
    scientific, _, common = label.partition("_")
    if scientific and common and scientific[0].isupper():
        return scientific, common
    return label, label


def whole_units(value: float, per_second: int) -> int:
    """Seconds in whole units, truncated, so that an end is never later than that of the recording.

    >>> whole_units(4.35, 100), whole_units(4.359, 100)
    (435, 435)
    """
    return math.floor(value * per_second + TOLERANCE_UNITS)


def seconds(value: float) -> str:
    """Seconds truncated to microseconds, without trailing zeros: `0.0`, `3.0`, `2.5`.

    >>> seconds(3.0), seconds(4.00003125), seconds(4.0000319)
    ('3.0', '4.000031', '4.000031')
    """
    whole, part = divmod(whole_units(value, 1_000_000), 1_000_000)
    return f"{whole}.{f'{part:06d}'.rstrip('0') or '0'}"


def full_path(path: Path) -> str:
    """Absolute path of a recording as printable text."""
    return escaped(path.absolute())


def tab_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Tab-separated text without quoting, which Raven and Audacity do not support; an empty header is left out."""
    lines = [*([header] if header else []), *rows]
    return "".join("\t".join(escaped(value) for value in line) + "\n" for line in lines)


def comma_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated text, quoted where needed (RFC 4180), with line feeds as line ends."""
    text = io.StringIO()
    writer = csv_writer(text)
    writer.writerow(header)
    writer.writerows([escaped(value) for value in row] for row in rows)
    return text.getvalue()
