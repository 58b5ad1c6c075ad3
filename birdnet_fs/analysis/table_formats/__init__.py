"""Formats of output tables, one file per format; `FORMATS` is the table of them.

A format module has one function, `render(recording: RecordingDetections) -> str`, which returns the whole text of the
table of one recording. The suffixes of the first four formats are those of BirdNET-Analyzer, so that programs that
work with it find the tables.

To add a format, write its module and add a row to `FORMATS`; `birdnet-fs analyze --format` then accepts its name.
tests/analysis/table_formats/test_contract.py runs over all formats.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.table_formats import animal_spot, audacity, birdnet, csv, kaleidoscope, raven
from birdnet_fs.core.errors import UserError, nearest


class Format(NamedTuple):
    """Suffix of the table's name after the recording's name, and the function that renders the text."""

    suffix: str
    render: Callable[[RecordingDetections], str]


FORMATS = {
    "raven": Format(".BirdNET.selection.table.txt", raven.render),
    "csv": Format(".BirdNET.results.csv", csv.render),
    "audacity": Format(".BirdNET.results.txt", audacity.render),
    "kaleidoscope": Format(".BirdNET.results.kaleidoscope.csv", kaleidoscope.render),
    "birdnet": Format(".birdnet.csv", birdnet.render),
    "animal_spot": Format(".annotation.result.txt", animal_spot.render),
}


def check_formats(names: Sequence[str]) -> tuple[str, ...]:
    """Check names of output formats.

    Args:
        names: Keys of `FORMATS`.

    Returns:
        The names without repetitions, in their order.

    Raises:
        UserError: There is no name, or an unknown one; the message suggests the nearest one.
    """
    if not names:
        raise UserError(f"At least one output format must be given: {', '.join(FORMATS)}.")
    for name in names:
        if name not in FORMATS:
            known = ", ".join(FORMATS)
            raise UserError(f"Unknown output format {name!r}; expected one of {known}.{nearest(name, FORMATS)}")
    return tuple(dict.fromkeys(names))
