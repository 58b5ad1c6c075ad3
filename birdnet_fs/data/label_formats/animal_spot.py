"""File names of ANIMAL-SPOT: LABEL-INFO_ID_YEAR_TAPE_STARTms_ENDms.wav (https://github.com/ChristianBergler/ANIMAL-SPOT).

Each file is a clip; start and end are its place on the tape. Clips of one tape form a group.
"""

import re
from collections.abc import Iterator

from birdnet_fs.data.label_formats.cells import is_no_call
from birdnet_fs.data.label_formats.source import LabelRow, Source

NAME = re.compile(
    r"(?P<label>[^_]+?)-(?P<info>.*)_(?P<id>[^_]+)_(?P<year>\d{4})_(?P<tape>[^_]+)_(?P<start>\d+)_(?P<end>\d+)"
)


def matches(source: Source) -> bool:
    """Whether the names of all audio files have this form."""
    return bool(source.audio_files) and all(NAME.fullmatch(path.stem) for path in source.audio_files)


def read(source: Source) -> Iterator[LabelRow]:
    """One row per file; a file with another name has no label."""
    for path in source.audio_files:
        parts = NAME.fullmatch(path.stem)
        cells = parts.groupdict() if parts else {}
        label = cells.get("label", "")
        absent = is_no_call(label, source.data)
        yield LabelRow(
            path.name,
            str(path),
            (label,) if label and not absent else (),
            group=f"{cells['year']}_{cells['tape']}" if cells else "",
            labeled=not absent,
            cells=cells,
        )
