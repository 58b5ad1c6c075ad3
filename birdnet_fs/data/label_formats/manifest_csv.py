"""The manifest.csv that `write_manifest` writes: path, onset_s, offset_s, labels, ... and row.* columns.

Paths are relative to the folder of the table. Bytes of paths that are not UTF-8 are preserved.
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import mark_formula, unmark_formula
from birdnet_fs.data.label_formats.cells import format_labels, list_labels, parse_labels
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.data.label_formats.table_choice import MANIFEST_COLUMNS as COLUMNS
from birdnet_fs.data.label_formats.table_rows import N_CACHED
from birdnet_fs.data.tables.columns import TimeColumns
from birdnet_fs.data.tables.reading import Cells, open_table
from birdnet_fs.data.tables.times import TimeReader

UNKNOWN = "unknown"  # column of classes that may be present or absent, written where a clip has any


def matches(source: Source) -> bool:
    """Whether the table has all of `COLUMNS`, in any order and possibly with others."""
    return source.table is not None and set(COLUMNS) <= set(source.table.columns)


def read(source: Source) -> Iterator[LabelRow]:
    """One row per clip.

    Args:
        source: The data folder.

    Yields:
        The rows of the table; the columns `row.*` are the cells of the table that it was made from.

    Raises:
        UserError: There is no table with these columns.
    """
    if source.table_path is None or not matches(source):
        raise UserError(f"data.layout=manifest needs a table with the columns {', '.join(COLUMNS)}; set data.table.")
    table = open_table(source.table_path, source.notes, keep_bytes=True)
    reader = TimeReader(TimeColumns("onset_s", "offset_s"), table.delimiter, open_ended=True)
    beside = str(table.path.parent)
    extra = {name[4:]: place for place, name in enumerate(table.columns) if name.startswith("row.")}
    labels_of = functools.lru_cache(N_CACHED)(lambda cell: list_labels(cell, source.data))
    for number, marked, refused in table.rows():
        cells = Cells(marked.places, tuple(map(unmark_formula, marked.texts)))
        labels, secondary = (labels_of(cells.get(name)) for name in ("labels", "secondary"))
        times = reader.read(cells)
        yield LabelRow(
            f"{table.name} row {number}",
            cells.get("path"),
            labels.labels,
            secondary.labels,
            onset=times.onset,
            offset=times.offset,
            group=cells.get("group"),
            fold=cells.get("fold"),
            split=cells.get("split"),
            beside=beside,
            labeled=bool(labels.labels),  # it has no labels only where no class is present
            unknown=parse_labels(cells.get(UNKNOWN)),
            problem=labels.problem or secondary.problem,
            problems=times.problems,
            refused=refused,
            cells=Cells(extra, cells.texts),
        )


def write_clips(clips: Sequence[Any], path: Path) -> None:
    """Write clips as a table that `read` reads, atomically.

    Args:
        clips: Clips (`data.manifest.Clip`).
        path: The table, absolute. Paths of audio below its folder are relative to it, other paths are absolute.
    """
    extra = _columns_of(clips)
    unknown = [UNKNOWN] if any(clip.unknown for clip in clips) else []

    cell_of = functools.lru_cache(N_CACHED)(format_labels)

    @functools.lru_cache(N_CACHED)
    def place_of(audio: Path) -> str:
        inside = audio.is_relative_to(path.parent)
        return (audio.relative_to(path.parent) if inside else audio).as_posix()

    with atomic_path(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv_writer(file)
        writer.writerow([*COLUMNS, *unknown, *(f"row.{name}" for name in extra)])
        for clip in clips:
            cells = [
                place_of(clip.path),
                repr(clip.onset_s),
                "" if clip.offset_s is None else repr(clip.offset_s),
                cell_of(clip.labels),
                cell_of(clip.secondary),
                clip.group,
                "" if clip.fold is None else str(clip.fold),
                clip.split,
                *(format_labels(clip.unknown) for _ in unknown),
                *[clip.row.get(name, "") for name in extra],
            ]
            writer.writerow([mark_formula(cell) for cell in cells])


def _columns_of(clips: Sequence[Any]) -> list[str]:
    """Columns of the tables of clips that are not empty in all of them, in their order."""
    found: dict[str, None] = {}
    lacking: dict[int, list[str]] = {}  # columns of a table that have been empty so far
    for clip in clips:
        names = clip.row.places if isinstance(clip.row, Cells) else clip.row
        rest = lacking.setdefault(id(names), list(names)) if isinstance(clip.row, Cells) else list(names)
        for name in [name for name in rest if clip.row.get(name)]:
            found[name] = None
            rest.remove(name)
    return list(found)
