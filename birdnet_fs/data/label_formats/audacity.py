"""A folder of Audacity label tracks: X.txt with lines of start, end and label for X.wav.

Source: https://manual.audacityteam.org/man/importing_and_exporting_labels.html. Lines that start with a backslash
hold the frequency range of the line above them. An empty file belongs to a recording without events. Tracks may also be
called X.wav.txt, X_labels.txt and X.labels.txt, be in UTF-16 and have decimal commas; a first line with names of
columns is left out, other lines that are no labels are refused.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from birdnet_fs.data.label_formats.cells import cell_labels
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.data.tables.columns import TimeColumns, is_selection_header
from birdnet_fs.data.tables.reading import read_text
from birdnet_fs.data.tables.times import TimeReader

ENDING = re.compile(r"([ ._-]labels?)?\.txt$", re.IGNORECASE)
COLUMNS = TimeColumns("start", "end")
_TIME = re.compile(r"\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
N_LINES = 20  # lines of a text file that are looked at for labels


def matches(source: Source) -> bool:
    """Whether any .txt file has a line of two times and a label."""
    return any(_is_track(path) for path in source.text_files)


def read(source: Source) -> Iterator[LabelRow]:
    """One row per label, and one without labels per empty track."""
    for path in source.text_files:
        if path.suffix.lower() != ".txt":
            continue
        stem = path.stem if source.index.named(path.stem) else ENDING.sub("", path.name)
        try:
            is_empty, is_track = not path.stat().st_size, _is_track(path)
            lines = read_text(path, source.notes).split("\n") if is_track else []
        except OSError as error:
            yield LabelRow(path.name, str(path), refused=f"the label track cannot be read ({error.strerror}).")
            continue
        if is_empty and source.index.named(stem):
            yield LabelRow(path.name, "", stem=stem, beside=str(path.parent), labeled=False)
        elif is_track:
            yield from _rows(source, path, stem, lines)


def _rows(source: Source, path: Path, stem: str, lines: list[str]) -> Iterator[LabelRow]:
    reader = TimeReader(COLUMNS, "\t")
    for number, line in enumerate(lines, 1):
        # as Audacity, which ignores what follows a third tab, such as the confidence of a detection
        start, end, text = [*(cell.strip() for cell in line.split("\t")), "", "", ""][:3]
        if line.startswith("\\") or not line.strip() or (number == 1 and _is_header(start, end)):
            continue
        found = cell_labels(text, source.data)
        times = reader.read({"start": start, "end": end})
        no_label = "" if "\t" in line and start else "it must hold a start, an end and a label, separated by tabs."
        yield LabelRow(
            f"{path.name} row {number}",
            "",
            found.labels,
            onset=times.onset,
            offset=times.offset,
            stem=stem,
            beside=str(path.parent),
            labeled=found.labeled,
            problem=found.problem,
            problems=times.problems,
            refused=no_label,
        )


def _is_header(start: str, end: str) -> bool:
    """Whether the first line has names of columns."""
    return bool(start and end) and not re.search(r"\d", start + end)


def _is_track(path: Path) -> bool:
    """Whether one of the first lines has two times, the second not before the first, and a label."""
    if path.suffix.lower() != ".txt":
        return False
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    lines = head.decode(encoding, "replace").splitlines()[:N_LINES]
    if lines and is_selection_header(lines[0]):
        return False
    for cells in (line.split("\t") for line in lines if not line.startswith("\\")):
        times = [cell.strip().replace(",", ".") for cell in cells[:2]]
        if len(cells) >= 3 and all(_TIME.fullmatch(time) for time in times) and float(times[0]) <= float(times[1]):
            return True
    return False
