"""The audio files of a data folder by name, by name without extension and by last folder, for finding those of rows."""

import os
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold())


# how names are compared: as they are, without Unicode normalization (NFC and NFD), and without case
SPELLINGS: tuple[Callable[[str], str], ...] = (str, _nfc, _folded)


class AudioIndex:
    """Audio files below one folder.

    Args:
        root: The folder, absolute.
        files: The files, absolute.
    """

    def __init__(self, root: Path, files: Sequence[Path]) -> None:
        self.root = str(root)
        self.paths = {str(path): path for path in files}
        self._by_name: dict[int, dict[str, list[str]]] = {}
        self._by_tail: dict[int, dict[tuple[str, str], list[str]]] = {}
        folders = {os.path.dirname(name) for name in self.paths}
        self.folders: set[str] = set()  # every folder that holds audio at any depth
        for folder in folders:
            while folder not in self.folders and len(folder) >= len(self.root):
                self.folders.add(folder)
                folder = os.path.dirname(folder)
        self.folder_names = {os.path.basename(folder) for folder in self.folders if folder != self.root}

    def named(self, name: str, spelling: int = 0) -> list[str]:
        """Files with a file name, else those with that name before their extension.

        Args:
            name: Name of a file, with or without its extension.
            spelling: Index into SPELLINGS. Default: 0, names that are equal.

        Returns:
            Their paths.
        """
        if spelling not in self._by_name:
            files: dict[str, list[str]] = {}
            stems: dict[str, list[str]] = {}
            for path in self.paths:
                own = SPELLINGS[spelling](os.path.basename(path))
                files.setdefault(own, []).append(path)
                stems.setdefault(os.path.splitext(own)[0], []).append(path)
            self._by_name[spelling] = {**stems, **files}
        return self._by_name[spelling].get(SPELLINGS[spelling](name), [])

    def in_folder(self, parts: Sequence[str], spelling: int = 0) -> list[str]:
        """Files of a name, with or without extension, in a folder of a name: the last two of `parts`."""
        if spelling not in self._by_tail:
            files: dict[tuple[str, str], list[str]] = {}
            stems: dict[tuple[str, str], list[str]] = {}
            for path in self.paths:
                folder, own = map(SPELLINGS[spelling], path.rsplit(os.sep, 2)[-2:])
                files.setdefault((folder, own), []).append(path)
                stems.setdefault((folder, os.path.splitext(own)[0]), []).append(path)
            self._by_tail[spelling] = {**stems, **files}
        folder, own = map(SPELLINGS[spelling], parts[-2:])
        return self._by_tail[spelling].get((folder, own), [])

    def relative(self, path: str) -> str:
        """Path below the folder of the index, with `/`; other paths are returned as they are."""
        inside = path.startswith(self.root + os.sep)
        return (path[len(self.root) + 1 :] if inside else path).replace(os.sep, "/")


def common_end(path: str, parts: Sequence[str], spelling: int = 0) -> int:
    """Number of parts at the end of a path that are those at the end of `parts`; the file name counts as one.

    Args:
        path: Path of an audio file that `AudioIndex.named` or `in_folder` found for `parts`.
        parts: Folders and file name.
        spelling: Index into SPELLINGS. Default: 0.

    Returns:
        The number, 1 or more.
    """
    same = SPELLINGS[spelling]
    count = 1
    for own, given in zip(reversed(path.split(os.sep)[:-1]), reversed(parts[:-1]), strict=False):
        if same(own) != same(given):
            break
        count += 1
    return count
