"""Times, names and rows as text, shared by all output tables."""

import io
import math
from collections.abc import Iterable, Sequence

from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.core.class_names import scientific_and_common
from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.text import escaped, mark_formula

TOLERANCE_UNITS = 1e-3  # of a unit: 4.35 s in binary is a little less than 435 hundredths


def split_label(label: str) -> tuple[str, str]:
    """Scientific and common name of a class as printable text (`core.class_names.scientific_and_common`).

    >>> split_label("Turdus merula_Eurasian Blackbird"), split_label("amro_call")
    (('Turdus merula', 'Eurasian Blackbird'), ('amro_call', 'amro_call'))
    """
    scientific, common = scientific_and_common(label)
    return escaped(scientific), escaped(common)


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


def recording_path(recording: RecordingDetections) -> str:
    """Path of a recording as printable text: as it is known, or relative to its input folder."""
    if recording.style.relative_paths:
        return escaped(recording.path.relative_to(recording.root).as_posix())
    return escaped(recording.path)


def number(value: float, recording: RecordingDetections) -> str:
    """A confidence or distance in the style of the tables: 4 decimals, or the 9 significant digits of float32."""
    return f"{value:.9g}" if recording.style.full_precision else f"{value:.4f}"


def tab_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Tab-separated text without quoting, which Raven and Audacity do not support; an empty header is left out.

    Names that begin as a formula are not marked, because these programs and ANIMAL-SPOT read them as they are.
    """
    lines = [*([header] if header else []), *rows]
    return "".join("\t".join(escaped(value) for value in line) + "\n" for line in lines)


def comma_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated text, quoted where needed (RFC 4180), with line feeds as line ends; formulas are marked."""
    text = io.StringIO()
    writer = csv_writer(text)
    writer.writerow(header)
    writer.writerows([mark_formula(escaped(value)) for value in row] for row in rows)
    return text.getvalue()
