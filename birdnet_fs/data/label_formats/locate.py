"""The audio file that a row of labels belongs to.

A path is looked up in the folder of the row's own table, below data.audio and below data.root. Otherwise:

- A path with folders is a file whose path ends with all of them, never a file of the same name in another folder. For
  an absolute path of another computer, the file that shares the most folders at the end, one or more; or a file at the
  top of the data folder.
- A name alone is the only file of that name. Where the folder of the table holds audio, or the audio lies in a folder
  of that name, it must be below that folder.

A name may lack its extension. A file whose name differs from the written one in Unicode normalization or in case only
is used when there is no other, with a note. Several files that fit are refused with their paths.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs.audio.index import SPELLINGS, common_end
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats.source import LabelRow, Source

N_SHOWN = 3  # files named in the message of a row that fits several
_HOW = {  # how a file was found that is not at the path of its row
    "name": "Rows whose file was found elsewhere by its name alone",
    "folders": "Rows with paths of another computer, whose files were found by their last folders",
    "normalization": "Rows that name a file in another Unicode normalization (NFC, NFD)",
    "case": "Rows that name a file in other upper and lower case",
}


@dataclass
class Place:
    """The audio file of a row as far as it is known, and one sentence on why it cannot be used, or ""."""

    path: Path | None
    problem: str = ""
    how: str = ""  # a key of _HOW; "" = at its path
    sure: bool = True  # False: a folder of the data folder is not in the path of the row


class Locator:
    """Finds the audio files of rows; equal paths are looked up once.

    Args:
        source: The data folder.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._places: dict[tuple[str, ...], Place] = {}
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._first: dict[tuple[str, ...], LabelRow] = {}

    def locate(self, row: LabelRow) -> Place:
        """The place of a row; it is final after `finish`.

        Args:
            row: A row with a path or a stem.

        Returns:
            The place, shared by all rows with that path.
        """
        key = (row.path, row.stem, row.beside, row.folder, row.above)
        if key not in self._places:
            self._places[key] = self._find(row)
            self._first[key] = row
        self._counts[key] += 1
        return self._places[key]

    def finish(self) -> None:
        """Refuse paths that lead to the file of another path by their last folders only, and add remarks."""
        owners: dict[Path, str] = {}
        for key, place in self._places.items():
            if place.path and place.sure and not place.problem:
                owners.setdefault(place.path, key[0])
        counts: Counter[str] = Counter()
        first: dict[str, str] = {}
        for key, place in self._places.items():
            if place.path and not place.sure and place.path in owners:
                own = escaped(owners[place.path])
                place.problem = f"no audio file {escaped(key[0])} was found; the last folders are those of {own}."
                place.path = None
            elif place.path and place.how:
                counts[place.how] += self._counts[key]
                row = self._first[key]
                written = row.path or row.stem
                shown = f"{row.source}: {written} is {self.source.index.relative(str(place.path))}"
                first.setdefault(place.how, escaped(shown))
        self.source.notes.extend(f"{_HOW[how]}: {n} (the first: {first[how]})." for how, n in counts.items())

    def _find(self, row: LabelRow) -> Place:
        if not row.path:
            return self._by_name(row, row.stem) if row.stem else Place(None, "the row names no audio file.")
        name = row.path.replace("\\", "/") if os.sep == "/" else row.path
        if row.folder and "/" not in name:
            found = self._inside(row, self.source.index.in_folder((row.folder, name)))
            if found:
                return self._one_of(found, name)
        for candidate in dict.fromkeys((row.path, name)):
            for top in self._tops(row):
                path = os.path.normpath(os.path.join(top, candidate))
                if (problem := _file_problem(path)) != "missing":
                    return Place(Path(path), problem)
        raw = _as_bytes_name(name)
        if raw and os.path.isfile(self.source.audio_root / raw):
            return Place(self.source.audio_root / raw)
        bare = re.sub(r"^[A-Za-z]:", "", name)
        parts = [part for part in os.path.normpath(bare).split(os.sep) if part not in ("", ".", "..")]
        if not parts:
            return Place(None, "this is a folder, not an audio file.")
        foreign = bare != name or bare.startswith(("/", "~"))  # an absolute path, which is not of this computer
        return self._by_folders(row, parts, foreign) if foreign or len(parts) > 1 else self._by_name(row, parts[0])

    def _tops(self, row: LabelRow) -> list[str]:
        """Folders that a path may be relative to, the first that holds it counts."""
        audio, own = str(self.source.audio_root), row.beside
        first = [own, audio] if not own or _is_below(own, audio) else [audio, own]
        return list(dict.fromkeys(top for top in (*first, str(self.source.root)) if top))

    def _by_folders(self, row: LabelRow, parts: list[str], foreign: bool) -> Place:
        index, written = self.source.index, row.path
        if not foreign:
            for spelling, how in enumerate(("", "normalization", "case")):
                near = self._inside(row, index.in_folder(parts, spelling))
                full = [path for path in near if common_end(path, parts, spelling) == len(parts)]
                if full:
                    return self._one_of(self._nearest(full, row), written, how)
            return Place(None, self._missing(written, parts[-1]))
        found = self._inside(row, index.in_folder(parts, 2)) if len(parts) > 1 else []
        tops = self._tops(row)
        found = found or [path for path in index.named(parts[-1], 2) if os.path.dirname(path) in tops]
        for spelling in (2, 1, 0):  # of equally long common ends, the one that is written in the same way
            scores = {path: common_end(path, parts, spelling) for path in found}
            found = [path for path in found if scores[path] == max(scores.values())]
        if not found:
            return Place(None, self._missing(written, parts[-1]))
        place = self._one_of(found, written, "folders")
        if place.path:
            n_own = len(index.relative(str(place.path)).split("/"))
            place.sure = common_end(str(place.path), parts, 2) >= min(n_own, len(parts))
        return place

    def _by_name(self, row: LabelRow, name: str) -> Place:
        for spelling, how in enumerate(("", "normalization", "case")):
            found = self._inside(row, self.source.index.named(name, spelling))
            if row.folder:
                same = SPELLINGS[spelling]
                inside = [path for path in found if same(path.rsplit(os.sep, 2)[-2]) == same(row.folder)]
                found = inside or [p for p in found if p.rsplit(os.sep, 2)[-2] not in row.other_folders]
            own = [path for path in found if os.path.dirname(path) == row.beside]
            if own:
                exact = [
                    path for path in own if SPELLINGS[spelling](os.path.basename(path)) == SPELLINGS[spelling](name)
                ]
                return self._one_of(exact or own, name, how)
            if found:
                return self._one_of(self._nearest(found, row), name, how or "name")
        return Place(None, self._missing(name, name))

    def _inside(self, row: LabelRow, found: list[str]) -> list[str]:
        """The files that a table in its folder can mean: below that folder or, by its name, below another."""
        index, own = self.source.index, row.beside
        if not found or not own or own == str(self.source.root) or own == index.root:
            return found
        if own in index.folders:
            return [path for path in found if _is_below(path, own)]
        name = os.path.basename(own)
        if name in index.folder_names:
            return [path for path in found if name in path[len(index.root) :].split(os.sep)]
        return found

    def _nearest(self, found: list[str], row: LabelRow) -> list[str]:
        """The files among several whose folders end most like the folder of the table."""
        if len(found) < 2:
            return found
        above = [part for part in f"{row.above}/{row.path}".replace("\\", "/").split("/") if part]
        scores = {path: common_end(path, above) for path in found} if row.above else {}
        if not scores or max(scores.values()) == min(scores.values()):
            own = row.beside[len(str(self.source.root)) :].split(os.sep)
            scores = {path: common_end(path, [*own, ""]) for path in found}
        best = max(scores.values())
        return [path for path in found if scores[path] == best]

    def _one_of(self, found: list[str], written: str, how: str = "") -> Place:
        if len(found) == 1:
            return Place(self.source.index.paths[found[0]], _file_problem(found[0]), how)
        shown = ", ".join(escaped(self.source.index.relative(path)) for path in sorted(found)[:N_SHOWN])
        more = ", ..." if len(found) > N_SHOWN else ""
        problem = f"{len(found)} audio files are called {escaped(written)} ({shown}{more}); name the folder too."
        return Place(None, problem)

    def _missing(self, written: str, name: str) -> str:
        index = self.source.index
        near, what = index.named(name, 2), "is in another folder"
        if not near:
            near, what = index.named(os.path.splitext(name)[0], 2), "has another extension"
        hint = f" ({escaped(index.relative(min(near)))} {what})" if near else ""
        return f"no audio file {escaped(written)} was found{hint}."


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _file_problem(path: str) -> str:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return "missing"
    if os.path.isdir(path):
        return "this is a folder, not an audio file."
    return "" if status.st_size else "the file is empty (0 bytes)."


def _as_bytes_name(name: str) -> str:
    """The name as a file system holds it when the name was written in Windows-1252."""
    try:
        return "" if name.isascii() else os.fsdecode(name.encode("cp1252"))
    except UnicodeError:
        return ""
