"""The manifest.csv that `write_manifest` writes: path, onset_s, offset_s, labels, ... and row.* columns.

Paths are relative to the folder of the table. Bytes of paths that are not UTF-8 are preserved.
"""

import csv
from collections.abc import Iterable, Iterator

from birdnet_fs.data.label_formats.source import LabelRow, Source, parse_labels

COLUMNS = ("path", "onset_s", "offset_s", "labels", "secondary", "group", "fold", "split")


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
            cells = {name: value or "" for name, value in cells.items() if name is not None}
            yield LabelRow(
                f"{source.table_path.name} row {lines.line_num}",
                cells["path"],
                parse_labels(cells["labels"]),
                parse_labels(cells["secondary"]),
                onset=cells["onset_s"],
                offset=cells["offset_s"],
                group=cells["group"],
                fold=cells["fold"],
                split=cells["split"],
                beside=str(source.table_path.parent),
                labeled=bool(cells["labels"]),
                cells={name[4:]: value for name, value in cells.items() if name.startswith("row.")},
            )


def format_labels(labels: Iterable[str]) -> str:
    """Cell that `parse_labels` reads back as the same labels: separated by `;`, else a Python list.

    >>> format_labels(["a", "b"]), format_labels(["a;b"])
    ('a;b', "['a;b']")
    """
    labels = tuple(labels)
    plain = ";".join(labels)
    return plain if parse_labels(plain) == labels else repr(list(labels))
