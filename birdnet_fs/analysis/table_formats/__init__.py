"""Output tables, one file per format; FORMATS is the list of them.

A format turns one recording's detections into the whole text of one file. The suffixes of the first
four are those BirdNET-Analyzer uses, so that the programs around it find the tables.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.table_formats import animal_spot, audacity, birdnet, csv, kaleidoscope, raven
from birdnet_fs.core.errors import UserError, nearest


class Format(NamedTuple):
    """What is put behind the recording's name, and what writes the text."""

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
    """The names, each once and in the order given.

    Raises:
        UserError: No name, or an unknown one; the nearest is named.
    """
    if not names:
        raise UserError(f"At least one output format must be given: {', '.join(FORMATS)}.")
    for name in names:
        if name not in FORMATS:
            known = ", ".join(FORMATS)
            raise UserError(f"Unknown output format {name!r}; known are {known}.{nearest(name, FORMATS)}")
    return tuple(dict.fromkeys(names))
