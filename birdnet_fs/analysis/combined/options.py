"""Options of the tables over all recordings, checked before anything is analyzed."""

import importlib.util
from dataclasses import dataclass
from datetime import tzinfo

from birdnet_fs.analysis.combined.clock_time import time_zone
from birdnet_fs.analysis.detections import DEFAULT_STYLE, TableStyle
from birdnet_fs.core.errors import UserError, nearest

FORMATS = ("csv", "parquet")
NO_TABLE = "none"


@dataclass(frozen=True)
class TableOptions:
    """Tables over all recordings, and the style of tables.

    Attributes:
        combined: Names of FORMATS, the formats of the table of all detections; none = neither it nor the summaries.
        zone: Zone of the clock times. Default: None, as names and metadata state it.
        recorder_zone: Zone of the recorders' clocks. Default: None, `zone`.
        style: Paths and precision. Default: absolute paths, 4 decimals.
    """

    combined: tuple[str, ...] = ("csv",)
    zone: tzinfo | None = None
    recorder_zone: tzinfo | None = None
    style: TableStyle = DEFAULT_STYLE


DEFAULT_TABLES = TableOptions()


def table_options(
    combined: str = "csv",
    timezone: str = "",
    recorder_timezone: str = "",
    *,
    relative_paths: bool = False,
    full_precision: bool = False,
) -> TableOptions:
    """Check the options of a command line.

    Args:
        combined: Names of FORMATS separated by commas, or "none". Default: "csv".
        timezone: Zone of the clock times: name of the IANA database, `UTC`, or an offset (`+02:00`, `UTC+2`). Default:
            "", as names and metadata state it.
        recorder_timezone: Zone of the recorders' clocks where it is another one. Default: "".
        relative_paths: Whether paths are relative to the input folder. Default: False.
        full_precision: Whether confidences have 9 significant digits. Default: False.

    Returns:
        The options.

    Raises:
        UserError: A format or a zone is unknown, or pyarrow is missing for Parquet.
    """
    names = tuple(dict.fromkeys(name.strip() for name in combined.split(",") if name.strip()))
    if names == (NO_TABLE,):
        names = ()
    elif not names:
        raise UserError(f"--combined must name one or more of {', '.join(FORMATS)}, or {NO_TABLE}. Received: nothing")
    for name in names:
        if name not in FORMATS:
            raise UserError(
                f"--combined must be formats out of {', '.join(FORMATS)}, or {NO_TABLE}. Received: {name!r}."
                f"{nearest(name, FORMATS)}"
            )
    if "parquet" in names and importlib.util.find_spec("pyarrow") is None:
        raise UserError('--combined parquet needs pyarrow: pip install "birdnet_fs[search]", or give --combined csv.')
    style = TableStyle(relative_paths, full_precision)
    return TableOptions(names, time_zone(timezone), time_zone(recorder_timezone), style)
