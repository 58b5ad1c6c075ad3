"""The folders that can be searched, by the file that marks each: the commands check them before NumPy is imported."""

from pathlib import Path

STORE = "store.json"
HOPLITE_SQLITE = "hoplite.sqlite"  # of a database of perch-hoplite


def is_store(path: Path) -> bool:
    """Whether a folder is an embedding store, or a database of perch-hoplite."""
    return (path / STORE).is_file() or (path / HOPLITE_SQLITE).is_file()
