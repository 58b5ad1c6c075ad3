"""Which recordings a batch does, and what their tables are called."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from birdnet_fs.audio import read as audio
from birdnet_fs.core.errors import UserError

_LONGEST_NAME = 180  # bytes of a recording's name kept in its tables' names; file systems end at 255


def find_recordings(inputs: Sequence[Path | str]) -> tuple[Path, list[Path]]:
    """The recordings of files and folders, each once, sorted; and the folder all of them lie in.

    Returns:
        (root, paths); all absolute.

    Raises:
        UserError: An input does not exist, or there is no recording at all.
    """
    if not inputs:
        raise UserError("At least one recording or folder must be given.")
    found: dict[Path, None] = {}
    roots = []
    for given in map(Path, inputs):
        place = Path(os.path.abspath(given))
        if place.is_dir():
            roots.append(place)
            found.update(dict.fromkeys(Path(os.path.abspath(path)) for path in audio.find_audio(place)))
        elif place.exists():
            roots.append(place.parent)
            found[place] = None
        else:
            raise UserError(f"The recording or folder {given} does not exist.")
    if not found:
        raise UserError(f"No recordings were found in {', '.join(str(given) for given in inputs)}.")
    try:
        root = Path(os.path.commonpath(roots))
    except ValueError:
        raise UserError("Inputs on different drives cannot share one output; run them one by one.") from None
    return root, sorted(found, key=os.fsencode)


def table_stems(recordings: Iterable[Path], root: Path) -> dict[Path, str]:
    """What the tables of each recording are called before the suffix.

    The recording's name without its extension, as BirdNET-Analyzer does; with it where two recordings of a
    folder differ in nothing else (`a.wav`, `a.flac`), compared without case for file systems that do.

    >>> list(table_stems([Path("/r/a.wav"), Path("/r/a.flac"), Path("/r/b.wav")], Path("/r")).values())
    ['a.wav', 'a.flac', 'b']
    """
    bare = {path: str(path.relative_to(root).with_suffix("")).casefold() for path in recordings}
    times = Counter(bare.values())
    return {path: _short(path.stem if times[bare[path]] == 1 else path.name) for path in bare}


def _short(name: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_NAME:
        return name
    kept = encoded[: _LONGEST_NAME - 17].decode("utf-8", "ignore")
    return f"{kept}-{hashlib.sha256(encoded).hexdigest()[:16]}"
