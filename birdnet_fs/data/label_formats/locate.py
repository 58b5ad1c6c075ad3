"""The audio file that a row of labels belongs to."""

import os
from pathlib import Path

from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats.source import LabelRow, Source


def locate_audio(source: Source, row: LabelRow) -> tuple[Path | None, str]:
    """Find the audio file of a row.

    A path is looked up below `data.audio`, the root, the folder of the row's own file and that of the table; then by
    its last parts, its name and its stem among all audio files. A stem alone is looked up beside the row's own file
    first.

    Args:
        source: The data folder.
        row: A row with a path or a stem.

    Returns:
        (path, problem): the path as far as it is known, and one sentence on why it cannot be used, or "".
    """
    name = row.path.replace("\\", "/") if os.sep == "/" else row.path
    if not row.path and not row.stem:
        return None, "the row names no audio file."
    if name:
        tops = [source.audio_root, source.root, *([Path(row.beside)] if row.beside else [])]
        if source.table_path:
            tops.append(source.table_path.parent)
        for candidate in dict.fromkeys((row.path, name)):
            for top in tops:
                path = Path(os.path.normpath(top / candidate))
                if (problem := _file_problem(path)) != "missing":
                    return path, problem
        raw = _as_bytes_name(name)
        if raw and os.path.isfile(source.audio_root / raw):
            return source.audio_root / raw, ""
        parts = Path(name).parts
        found = [p for p in source.by_name.get(parts[-1], []) if p.parts[-len(parts) :] == parts]
        found = found or source.by_name.get(parts[-1], []) or source.by_stem.get(parts[-1], [])
    else:
        found = source.by_stem.get(row.stem, [])
        found = [p for p in found if str(p.parent) == row.beside] or found
    if len(found) == 1:
        return found[0], _file_problem(found[0])
    shown = escaped(name or row.stem)
    if found:
        return None, f"{len(found)} audio files are called {shown}; name the folder too."
    return None, f"no audio file {shown} was found."


def _file_problem(path: Path) -> str:
    try:
        size = os.stat(path).st_size
    except (OSError, ValueError):
        return "missing"
    if os.path.isdir(path):
        return "this is a folder, not an audio file."
    return "" if size else "the file is empty (0 bytes)."


def _as_bytes_name(name: str) -> str:
    """The name as a file system holds it when the name was written in Windows-1252."""
    try:
        return "" if name.isascii() else os.fsdecode(name.encode("cp1252"))
    except UnicodeError:
        return ""
