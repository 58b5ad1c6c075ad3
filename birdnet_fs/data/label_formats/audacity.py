"""A folder of Audacity label tracks: X.txt with lines of start, end and label for X.wav.

Source: https://manual.audacityteam.org/man/importing_and_exporting_labels.html. Lines that start with a backslash
hold the frequency range of the line above them. An empty file belongs to a recording without events.
"""

from collections.abc import Iterator
from pathlib import Path

from birdnet_fs.data.label_formats.cells import cell_labels
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.data.label_formats.tables import read_text


def matches(source: Source) -> bool:
    """Whether any .txt file starts with two times and a label."""
    return any(_is_track(path) for path in source.text_files)


def read(source: Source) -> Iterator[LabelRow]:
    """One row per label, and one without labels per empty track."""
    for path in source.text_files:
        empty = path.suffix.lower() == ".txt" and not path.stat().st_size and path.stem in source.by_stem
        if empty:
            yield LabelRow(path.name, "", stem=path.stem, beside=str(path.parent), labeled=False)
        elif _is_track(path):
            for number, line in enumerate(read_text(path, source.notes).splitlines(), 1):
                cells = line.split("\t")
                if line.startswith("\\") or not line.strip():
                    continue
                start, end, text = (*cells, "", "")[:3] if len(cells) < 3 else (cells[0], cells[1], cells[2])
                found = cell_labels(text, source.data)
                yield LabelRow(
                    f"{path.name} row {number}",
                    "",
                    found.labels,
                    onset=start,
                    offset=end,
                    stem=path.stem,
                    beside=str(path.parent),
                    labeled=found.labeled,
                    problem=found.problem,
                )


def _is_track(path: Path) -> bool:
    if path.suffix.lower() != ".txt":
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        cells = file.readline().lstrip("\ufeff").rstrip("\n").split("\t")
    try:
        return len(cells) >= 3 and float(cells[0]) <= float(cells[1])
    except ValueError:
        return False
