"""Stamps of finished recordings, which also list the tables that this program wrote, to detect later edits.

A stamp is one small JSON file in `<output>/.done` for the tables of one recording. It names the recording and holds its
size, modification time and the hashes of its first and last part, the hash of the settings and of the model, and the
SHA-256 of every table. An interrupted or repeated analysis therefore only does what is missing, and a table is replaced
or removed only when its stamp proves that this program wrote it as it is. The stamp is also written before the tables,
without settings and with the hashes of the old and the new ones, so that a killed process leaves no table without
a stamp.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from birdnet_fs.analysis.inputs import comparable_name
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256, write_text

DONE = ".done"
FORMAT = 2  # stamps of format 1 held no hash of the tables
_SKIPPED_BYTES, _HASHED_BYTES = 4_096, 65_536  # headers hold the length, which grows while a file is copied


@dataclass(frozen=True)
class Outcome:
    """The outcome of a recording: its row of the ledger and the number of detections."""

    status: str
    reason: str
    flags: tuple[str, ...]
    duration_s: float
    n_detections: int


@dataclass(frozen=True)
class Content:
    """Path, size, time and hashes by which recordings are compared.

    Attributes:
        path: Absolute path of the recording.
        n_bytes: Size in bytes.
        mtime_ns: Modification time in nanoseconds.
        head: Hash of its first 64 KiB after the header.
        tail: Hash of its last 64 KiB.
    """

    path: str
    n_bytes: int
    mtime_ns: int
    head: str
    tail: str

    @classmethod
    def of(cls, recording: Path) -> "Content":
        """Read the content of a recording; OSError is raised when it cannot be read."""
        about = recording.stat()
        with open(recording, "rb") as file:
            file.seek(min(_SKIPPED_BYTES, max(0, about.st_size - _HASHED_BYTES)))
            head = hashlib.sha256(file.read(_HASHED_BYTES)).hexdigest()[:32]
            file.seek(max(0, about.st_size - _HASHED_BYTES))
            tail = hashlib.sha256(file.read(_HASHED_BYTES)).hexdigest()[:32]
        return cls(os.path.abspath(recording), about.st_size, about.st_mtime_ns, head, tail)

    def is_of(self, other: "Content") -> bool:
        """Whether two files are one recording: the same path, whatever its content is now, or a copy elsewhere."""
        return self.path == other.path or self.samples == other.samples

    @property
    def samples(self) -> tuple[int, str, str]:
        """Size and hashes, which copies of a recording share."""
        return self.n_bytes, self.head, self.tail


@dataclass(frozen=True)
class Stamp:
    """A stamp.

    Attributes:
        content: The recording.
        root: Input folder, which some formats name.
        settings: Hash of the settings and the model, from `settings_key`; "" while the tables are being written.
        outcome: The outcome of the recording.
        tables: Path in the output folder -> the SHA-256 that its content may have.
    """

    content: Content
    root: str
    settings: str
    outcome: Outcome
    tables: Mapping[str, tuple[str, ...]]

    def wrote(self, output: Path, table: str) -> bool:
        """Whether a table exists and is as this program wrote it."""
        return (output / table).is_file() and sha256(output / table) in self.tables.get(table, ())

    def is_same(self, other: "Stamp | None") -> bool:
        """Whether the tables of two stamps are of the same recording, settings and model."""
        return other is not None and replace(self, outcome=other.outcome, tables=other.tables) == other

    def is_finished(self, content: Content, root: str, settings: str, tables: Iterable[str], output: Path) -> bool:
        """Whether all tables exist and are of this recording and these settings; a person may have edited them.

        Args:
            content: The recording.
            root: Input folder.
            settings: Hash of the settings and the model.
            tables: Paths in the output folder.
            output: Output folder.

        Returns:
            True when nothing is missing.
        """
        return (self.content, self.root, self.settings) == (content, root, settings) and (
            all(table in self.tables and (output / table).is_file() for table in tables)
        )


def stamp_path(output: Path, stem: str) -> Path:
    """Path of the stamp of the tables whose path in the output folder starts with `stem`.

    The name is a hash, because recordings may have long or non-UTF-8 names. Letters are compared without case and
    accents by their composition, as some file systems do.
    """
    return output / DONE / (hashlib.sha256(os.fsencode(comparable_name(stem))).hexdigest()[:32] + ".json")


def settings_key(settings: Mapping[str, Any]) -> str:
    """Hash of the settings, the model included."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def read_stamp(path: Path) -> Stamp | None:
    """Read a stamp.

    Args:
        path: The stamp, existing or not.

    Returns:
        The stamp; None when it is missing, damaged or of an earlier version.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            return None
        outcome = {**found["outcome"], "flags": tuple(map(str, found["outcome"]["flags"]))}
        tables = {str(name): tuple(map(str, hashes)) for name, hashes in found["tables"].items()}
        kept = (str(found["root"]), str(found["settings"]))
        return Stamp(Content(**found["content"]), *kept, Outcome(**outcome), tables)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # the tables, if there are any, are not of this program


def write_tables(
    output: Path, place: Path, stamp: Stamp, texts: Mapping[str, str], *, overwrite: bool = False
) -> tuple[list[str], list[str]]:
    """Write the tables of a recording and its stamp; tables of the earlier stamp that are no longer true are removed.

    Args:
        output: Output folder.
        place: File of the stamp, from `stamp_path`.
        stamp: The new stamp; its `tables` are replaced.
        texts: Path in the output folder -> text of the table.
        overwrite: Whether to replace tables whoever has written them. Default: False.

    Returns:
        Tables that were removed, and tables of the earlier stamp that stay although they are no longer true, because
        somebody has changed them.

    Raises:
        NotOursError: A table exists that this program has not written as it is, and has another content than the new
            one. Nothing is written then.
    """
    before = read_stamp(place)
    old = dict(before.tables) if before else {}
    new = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    for name in () if overwrite else texts:
        if (output / name).is_file() and sha256(output / name) not in (*old.get(name, ()), new[name]):
            raise NotOursError(name)
    others = {name: hashes for name, hashes in old.items() if name not in new and (output / name).is_file()}
    true = stamp.is_same(before)
    either = {**others, **{name: (*old.get(name, ()), digest) for name, digest in new.items()}}
    _write(place, replace(stamp, settings="", tables=either))
    for name, text in texts.items():
        write_text(output / name, text)
    removed, kept = remove_tables(output, {} if true else others)
    final = {name: (digest,) for name, digest in new.items()}
    _write(place, replace(stamp, tables={**(others if true else {}), **final}))
    return removed, kept


def remove_tables(output: Path, tables: Mapping[str, tuple[str, ...]]) -> tuple[list[str], list[str]]:
    """Remove the tables that are as this program wrote them.

    Args:
        output: Output folder.
        tables: Path in the output folder -> the SHA-256 that its content may have.

    Returns:
        Tables that were removed, and tables that stay.
    """
    removed: list[str] = []
    kept: list[str] = []
    for name, hashes in tables.items():
        if (output / name).is_file():
            ours = sha256(output / name) in hashes
            (removed if ours else kept).append(name)
            if ours:
                (output / name).unlink()
    return removed, kept


class NotOursError(UserError):
    """A table exists that this program has not written as it is; `table` is its path in the output folder."""

    def __init__(self, table: str) -> None:
        super().__init__(f"{table} was changed since it was written, or something else wrote it.")
        self.table = table


def _write(place: Path, stamp: Stamp) -> None:
    # names of files may hold bytes that are not UTF-8, which JSON in ASCII keeps
    write_text(place, json.dumps({"format": FORMAT, **asdict(stamp)}, indent=1) + "\n")
