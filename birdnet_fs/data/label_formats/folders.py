"""One folder per class: `Parus major/*.wav`.

The name of the folder is the label. With data.multi_label=true clips in a folder `A,B` have two labels; otherwise a
comma is a part of the name (`Owl, Barn`). Clips in `-A` (A is absent), and in a folder named noise, nocall or
background (data.noise_label), have none. Files in deeper folders belong to the class of the top folder.
"""

from collections.abc import Iterator

from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats.cells import is_no_call
from birdnet_fs.data.label_formats.source import LabelRow, Source


def matches(source: Source) -> bool:
    """Whether there is any audio file."""
    return bool(source.audio_files)


def read(source: Source) -> Iterator[LabelRow]:
    """One row per audio file."""
    top, folders = source.audio_root, set[str]()
    for path in source.audio_files:
        parts = path.relative_to(top).parts
        folder = parts[0] if len(parts) > 1 else ""
        folders.add(folder)
        names = [name.strip() for name in (folder.split(",") if source.data.multi_label else [folder])]
        labels = [n for n in names if n and not _is_absent(n) and not is_no_call(n, source.data)]
        yield LabelRow(
            "/".join(parts),
            str(path),
            tuple(dict.fromkeys(labels)),
            labeled=not folder,
            cells={"folder": folder, "filename": path.name},
        )
    _note(source, sorted(folder for folder in folders if "," in folder), sorted(filter(_is_absent, folders)))


def _is_absent(name: str) -> bool:
    """Whether a name is that of an absent class, `-A`; a negative number is a label."""
    return name.startswith("-") and not name[1:].strip().isdecimal()


def _note(source: Source, commas: list[str], absent: list[str]) -> None:
    if commas and source.data.multi_label:
        source.notes.append(
            f"{len(commas)} folder names with a comma stand for several labels, as {escaped(commas[0])!r}; a comma is "
            "a part of the name with data.multi_label=false, or in a table of labels."
        )
    elif commas:
        source.notes.append(
            f"{len(commas)} folder names with a comma are one label each, as {escaped(commas[0])!r}; with "
            "data.multi_label=true a comma separates labels."
        )
    if absent:
        source.notes.append(
            f"{len(absent)} folder names begin with '-', as {escaped(absent[0])!r}: their clips are without that class "
            "and have no label."
        )
