"""The soundscape labels of BirdCLEF: one row per window of 5 s, `birds` with codes divided by spaces, or "nocall".

train_soundscape_labels.csv of 2021 has the columns row_id, site, audio_id, seconds and birds. A window ends at
`seconds`. Recordings are called `{audio_id}_{site}_{date}.ogg`, and are found by the first two parts of their names.

Source: https://www.kaggle.com/competitions/birdclef-2021/data
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats.cells import CellLabels, list_labels
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.data.label_formats.table_choice import SOUNDSCAPE_LABELS, is_soundscape_labels
from birdnet_fs.schema import Data

WINDOW_S = 5.0  # length of a window


def matches(source: Source) -> bool:
    """Whether the table has the columns row_id, audio_id, seconds and birds."""
    return source.table is not None and is_soundscape_labels(source.table.columns)


def read(source: Source) -> Iterator[LabelRow]:
    """One row per window; rows with "nocall" have no class.

    Args:
        source: The data folder.

    Yields:
        The rows of the table.

    Raises:
        UserError: There is no table with these columns.
    """
    table = source.table
    if table is None or not matches(source):
        columns = ", ".join(map(escaped, table.columns)) if table else "no table"
        raise UserError(
            "data.layout=birdclef_soundscapes needs a table with the columns row_id, audio_id, seconds and birds; set "
            f"data.table. Received: {columns}"
        )
    names = {key: table.column((key,)) for key in (*SOUNDSCAPE_LABELS, "site")}
    files = _by_name(source.audio_files)
    for number, cells, refused in table.rows():
        get: Mapping[str, str] = {key: cells.get(name) for key, name in names.items()}
        path, missing = _one_file(files, get["audioid"], get["site"])
        end, no_time = _end(get["seconds"])
        found = _labels(get["birds"], source.data)
        yield LabelRow(
            f"{table.name} row {number}",
            path,
            found.labels,
            onset=None if end is None else end - WINDOW_S,
            offset=end,
            beside=str(table.path.parent),
            labeled=found.labeled,
            problem=found.problem,
            problems=(no_time,) if no_time else (),
            refused=refused or missing,
            cells=cells,
        )


def _by_name(paths: tuple[Path, ...]) -> dict[tuple[str, str], list[str]]:
    """(audio_id, site) and (audio_id, "") -> files whose names begin so."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        audio_id, _, rest = path.stem.partition("_")
        for site in {"", rest.partition("_")[0]}:
            found.setdefault((audio_id, site), []).append(str(path))
    return found


def _one_file(files: Mapping[tuple[str, str], list[str]], audio_id: str, site: str) -> tuple[str, str]:
    """The file of a recording, else the name that it must begin with and why it is not used."""
    paths = files.get((audio_id, site), [])
    if len(paths) == 1:
        return paths[0], ""
    name = f"{audio_id}_{site or '*'}_*"
    if paths:
        return name, f"several audio files are called {escaped(name)}: {', '.join(map(escaped, paths[:3]))}."
    return name, f"no audio file is called {escaped(name)}."


def _end(cell: str) -> tuple[float | None, str]:
    try:
        end = float(cell)
    except ValueError:
        end = math.nan
    if WINDOW_S <= end < math.inf:
        return end, ""
    return None, f"its seconds must be the end of a window, {WINDOW_S:g} or more. Received: {escaped(cell)!r}"


def _labels(cell: str, data: Data) -> CellLabels:
    found = list_labels(cell, data, " ")
    if len(found.labels) > 1 and not data.multi_label:
        shown = ", ".join(map(repr, found.labels[:3]))
        problem = f"it has {len(found.labels)} labels ({shown}); set data.multi_label=true to use them."
        return CellLabels((), problem=problem)
    return found._replace(labeled=bool(found.labels) or not cell.strip())
