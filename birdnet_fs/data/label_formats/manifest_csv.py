"""Our own manifest.csv, as `write_manifest` writes it: path, onset_s, offset_s, labels, ... and row.* columns.

Paths are relative to the folder of the table. Names whose bytes are not UTF-8 come back as they were.
"""

import csv
from collections.abc import Iterator

from birdnet_fs.data.label_formats.source import Row, Source, labels_of

COLUMNS = ("path", "onset_s", "offset_s", "labels", "secondary", "group", "fold", "split")


def matches(source: Source) -> bool:
    """Whether the table has all of our columns; the order and others beside them make no difference."""
    return source.table is not None and set(COLUMNS) <= set(source.table.columns)


def read(source: Source) -> Iterator[Row]:
    """One row per clip."""
    if source.table_path is None:
        return
    with open(source.table_path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.DictReader(file)
        for cells in lines:
            cells = {name: value or "" for name, value in cells.items() if name is not None}
            yield Row(
                f"{source.table_path.name} row {lines.line_num}",
                cells["path"],
                labels_of(cells["labels"]),
                labels_of(cells["secondary"]),
                onset=cells["onset_s"],
                offset=cells["offset_s"],
                group=cells["group"],
                fold=cells["fold"],
                split=cells["split"],
                beside=str(source.table_path.parent),
                labeled=bool(cells["labels"]),
                cells={name[4:]: value for name, value in cells.items() if name.startswith("row.")},
            )
