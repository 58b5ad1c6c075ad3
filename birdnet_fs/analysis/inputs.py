"""The recordings to analyze and the names of their tables."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from birdnet_fs.audio.files import AudioError
from birdnet_fs.audio.find import find_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped

_LONGEST_NAME = 180  # bytes of a recording's name in the names of its tables; file systems allow 255 with the suffix


class Inputs(NamedTuple):
    """Recordings to analyze, and what is there but cannot be read."""

    root: Path  # the folder that holds all inputs
    recordings: list[Path]  # each once, sorted; all absolute
    refused: list[tuple[Path, str]]  # (path, reason): unreadable folders, broken links, links to folders, pipes


class Listed(NamedTuple):
    """The same as `Inputs` with the names of the recordings, which take a quarter of the memory."""

    root: Path
    names: list[str]
    refused: list[tuple[Path, str]]


def find_recordings(inputs: Sequence[Path | str]) -> Inputs:
    """Find the recordings of files and folders; files that are not audio are counted on stderr.

    UserErrors of `list_recordings` are passed on.

    Args:
        inputs: Audio files, and folders that are searched recursively.

    Returns:
        The recordings, and what cannot be read.
    """
    root, names, refused = list_recordings(inputs)
    return Inputs(root, list(map(Path, names)), refused)


def list_recordings(inputs: Sequence[Path | str]) -> Listed:
    """List the recordings of files and folders by name; files that are not audio are counted on stderr.

    Args:
        inputs: Audio files, and folders that are searched recursively.

    Returns:
        The recordings, and what cannot be read.

    Raises:
        UserError: An input does not exist, there is no recording, or the inputs are on different drives.
    """
    if not inputs:
        raise UserError("Expected at least one recording or folder. Received: none")
    found: dict[str, None] = {}
    refused: dict[Path, str] = {}
    roots, notes = [], []
    for given in map(Path, inputs):
        place = Path(os.path.abspath(given))
        if place.is_dir():
            roots.append(place)
            try:
                listed = find_audio(place)
            except AudioError as error:  # the other inputs are analyzed all the same
                refused[place] = error.reason
                continue
            found.update(dict.fromkeys(listed.names))
            refused.update(listed.refused)
            notes += [f"{escaped(given)}: {note}" for note in listed.notes]
        elif place.exists():
            roots.append(place.parent)
            found[os.fspath(place)] = None
        else:
            raise UserError(f"The recording or folder {escaped(given)} does not exist.")
    if not found and not refused:
        where = ", ".join(escaped(given) for given in inputs)
        raise UserError(" ".join([f"No recordings were found in {where}.", *notes]))
    for note in notes:
        say(note)
    try:
        root = Path(os.path.commonpath(roots))
    except ValueError:
        raise UserError("Inputs on different drives cannot share one output folder; run them separately.") from None
    kept = [(path, reason) for path, reason in refused.items() if os.fspath(path) not in found]
    return Listed(root, sorted(found, key=os.fsencode), kept)


def table_stems(recordings: Iterable[Path], root: Path) -> dict[Path, str]:
    """Names of the tables of each recording, without the suffix of the format; no two are equal in one folder.

    The name of the recording without its extension, as in BirdNET-Analyzer, or with it where the table of another
    recording would have the same name (`a.wav`, `a.flac`); a name that still occurs twice has a number. Names are
    compared without case and Unicode normalization, as some file systems do.

    Args:
        recordings: The recordings; a name does not depend on their order.
        root: Folder that holds them.

    Returns:
        The name for each recording.

    >>> paths = [Path("/r/a.wav"), Path("/r/a.flac"), Path("/r/a.wav.ogg"), Path("/r/b.wav")]
    >>> list(table_stems(paths, Path("/r")).values())
    ['a.wav', 'a.flac', 'a.wav.ogg', 'b']
    """
    paths = list(dict.fromkeys(recordings))
    names = {path: path.stem for path in paths}
    places = {path: str(path.parent.relative_to(root)) for path in paths}
    while True:  # a whole name may be that of another recording without its extension
        times = Counter(_folded(places[path], names[path]) for path in paths)
        twice = [p for p in paths if times[_folded(places[p], names[p])] > 1 and names[p] != p.name]
        if not twice:
            break
        names.update({path: path.name for path in twice})
    used, found = Counter[tuple[str, str]](), dict[Path, str]()
    for path in sorted(paths, key=os.fsencode):
        key = _folded(places[path], names[path])
        used[key] += 1
        found[path] = _short(names[path] if used[key] == 1 else f"{names[path]}-{used[key]}")
    return {path: found[path] for path in paths}


def _folded(folder: str, name: str) -> tuple[str, str]:
    return comparable_name(folder), comparable_name(name)


def comparable_name(path: str) -> str:
    """A path as file systems compare it that ignore case and Unicode normalization."""
    return unicodedata.normalize("NFC", path).casefold()


def _short(name: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_NAME:
        return name
    kept = encoded[: _LONGEST_NAME - 17].decode("utf-8", "ignore")
    return f"{kept}-{hashlib.sha256(encoded).hexdigest()[:16]}"
