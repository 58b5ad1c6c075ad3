"""The manifest.csv that `write_manifest` writes: path, onset_s, offset_s, labels, ... and row.* columns.

Paths are relative to the folder of the table. Bytes of paths that are not UTF-8 are preserved.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import mark_formula, unmark_formula
from birdnet_fs.data.label_formats.cells import format_labels, list_labels, parse_labels
from birdnet_fs.data.label_formats.source import LabelRow, Source

COLUMNS = ("path", "onset_s", "offset_s", "labels", "secondary", "group", "fold", "split")
UNKNOWN = "unknown"  # column of classes that may be present or absent, written where a clip has any


def matches(source: Source) -> bool:
    """Whether the table has all of `COLUMNS`, in any order and possibly with others."""
    return source.table is not None and set(COLUMNS) <= set(source.table.columns)


def read(source: Source) -> Iterator[LabelRow]:
    """One row per clip."""
    if source.table_path is None:
        return
    with open(source.table_path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.DictReader(file)
        for cells in lines:
            cells = {name: unmark_formula(value or "") for name, value in cells.items() if name is not None}
            labels, secondary = (list_labels(cells[name], source.data) for name in ("labels", "secondary"))
            yield LabelRow(
                f"{source.table_path.name} row {lines.line_num}",
                cells["path"],
                labels.labels,
                secondary.labels,
                onset=cells["onset_s"],
                offset=cells["offset_s"],
                group=cells["group"],
                fold=cells["fold"],
                split=cells["split"],
                beside=str(source.table_path.parent),
                labeled=bool(labels.labels),  # it has no labels only where no class is present
                unknown=parse_labels(cells.get(UNKNOWN, "")),
                problem=labels.problem or secondary.problem,
                cells={name[4:]: value for name, value in cells.items() if name.startswith("row.")},
            )


def write_clips(clips: Sequence[Any], path: Path) -> None:
    """Write clips as a table that `read` reads, atomically.

    Args:
        clips: Clips (`data.manifest.Clip`).
        path: The table, absolute. Paths of audio below its folder are relative to it, other paths are absolute.
    """
    extra = list(dict.fromkeys(name for clip in clips for name in clip.row))
    unknown = [UNKNOWN] if any(clip.unknown for clip in clips) else []
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv_writer(file)
        writer.writerow([*COLUMNS, *unknown, *(f"row.{name}" for name in extra)])
        for clip in clips:
            inside = clip.path.is_relative_to(path.parent)
            cells = [
                (clip.path.relative_to(path.parent) if inside else clip.path).as_posix(),
                repr(clip.onset_s),
                "" if clip.offset_s is None else repr(clip.offset_s),
                *(format_labels(labels) for labels in (clip.labels, clip.secondary)),
                clip.group,
                "" if clip.fold is None else clip.fold,
                clip.split,
                *(format_labels(clip.unknown) for _ in unknown),
                *(clip.row.get(name, "") for name in extra),
            ]
            writer.writerow(map(mark_formula, cells))
