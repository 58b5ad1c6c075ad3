"""A folder of Audacity label tracks: X.txt beside (or named like) X.wav, lines of start, end, label.

https://manual.audacityteam.org/man/importing_and_exporting_labels.html. Lines that start with a backslash
hold the frequency range of the line above. An empty file is a recording in which nothing calls.
"""

from collections.abc import Iterator
from pathlib import Path

from birdnet_fs.data.label_formats.source import Row, Source, labels_of, no_call, read_text


def matches(source: Source) -> bool:
    """Whether a .txt file starts with two times and a label."""
    return any(_is_track(path) for path in source.text_files)


def read(source: Source) -> Iterator[Row]:
    """One row per label, one without labels per empty track."""
    for path in source.text_files:
        empty = path.suffix.lower() == ".txt" and not path.stat().st_size and path.stem in source.by_stem
        if empty:
            yield Row(path.name, "", stem=path.stem, beside=str(path.parent), labeled=False)
        elif _is_track(path):
            for number, line in enumerate(read_text(path, source.notes).splitlines(), 1):
                cells = line.split("\t")
                if line.startswith("\\") or not line.strip():
                    continue
                start, end, text = (*cells, "", "")[:3] if len(cells) < 3 else (cells[0], cells[1], cells[2])
                yield Row(
                    f"{path.name} row {number}",
                    "",
                    labels_of(text) if source.data.multi_label else ((text.strip(),) if labels_of(text) else ()),
                    onset=start,
                    offset=end,
                    stem=path.stem,
                    beside=str(path.parent),
                    labeled=not no_call(text),
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
