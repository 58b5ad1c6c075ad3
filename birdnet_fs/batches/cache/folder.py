"""A cache folder: the stores in it, which are found by what they hold, written by one process at a time, and limited.

The name of a store begins with its kind, as `waveforms-32000`. One process at a time writes (core/lock.py); others wait
and then find what it wrote. A process that is killed leaves the stores that are whole, and loses the one it is writing
(up to STORE_BYTES). When the folder is full, the stores that were used longest ago are removed, but none that a process
has open. A removed store that is still mapped keeps its content until it is closed.
"""

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.batches.cache.hashes import HASHES
from birdnet_fs.batches.cache.parallel import in_order
from birdnet_fs.batches.cache.store import DamagedError, Entry, StoreFile, writing_store
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import no_room, write_text
from birdnet_fs.core.leftovers import remove_leftovers
from birdnet_fs.core.lock import folder_lock, is_in_use
from birdnet_fs.core.progress import say, say_once, track
from birdnet_fs.core.text import escaped

STORE_BYTES = 1_000_000_000  # of one store; a longer array is in a store of its own
STEP_BYTES = 64_000_000  # room for so much more is made at once
TAG = "CACHEDIR.TAG"  # for backup programs, which leave the folder out (https://bford.info/cachedir/)
_TAG_TEXT = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder holds values that can be computed again.\n"
_NAME = re.compile(r"(?P<kind>(?:waveforms|features)-[0-9a-f]+)-[0-9a-f]{16}\.store")
_WRITER = "writing"  # what is locked while a store is written


@dataclass(frozen=True)
class Stored:
    """An array in a store that is open."""

    store: StoreFile
    entry: Entry

    def load(self) -> np.ndarray | None:
        """Map the array [*entry.shape]; None when it is damaged, which is said, and its store is removed."""
        try:
            return self.store.array(self.entry)
        except DamagedError as error:
            discard(self.store.path, str(error))
            return None


@dataclass(frozen=True)
class Made:
    """An array to store, and further values that JSON can hold."""

    array: np.ndarray
    about: tuple[Any, ...] = ()


Jobs = Mapping[str, Callable[[], Made | None]]  # key -> computes the array; None = it cannot be stored


def discard(path: Path, reason: str) -> None:
    """Remove a damaged store, and say so once.

    Args:
        path: The store.
        reason: Clause that begins with the path.
    """
    with contextlib.suppress(OSError):
        path.unlink()
    say_once(f"{reason}; it is not used and was removed, and the next training writes it again.")


@dataclass(frozen=True)
class CacheFolder:
    """A folder of stores.

    Attributes:
        path: The folder, which need not exist.
        limit_bytes: Largest size of all stores together.
    """

    path: Path
    limit_bytes: int

    def check(self) -> None:
        """Check that the folder may be used as a cache.

        Raises:
            UserError: The path is a file, or a folder of other things.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"data.cache must be a folder; {escaped(self.path)} is a file.")
        try:
            names = set(os.listdir(self.path))
        except OSError:
            return
        if TAG not in names and any(not name.startswith(".") for name in names):
            raise UserError(
                f"data.cache={escaped(self.path)} holds other files and no {TAG}; give a new or empty folder, since "
                "what is in a cache may be removed at any time."
            )

    def find(self, kind: str, keys: Collection[str]) -> dict[str, Stored]:
        """Find arrays.

        Args:
            kind: Beginning of the names of the stores, as "waveforms-32000".
            keys: Keys to find.

        Returns:
            Those that are there. Their stores stay open, and are marked as used now.
        """
        wanted, found = set(keys), dict[str, Stored]()
        for path in self.stores(kind):
            try:
                store = StoreFile(path)
            except DamagedError as error:
                discard(path, str(error))
                continue
            except OSError:  # removed by another process, or not readable for this user
                continue
            new = [key for key in store.entries if key in wanted and key not in found]
            found |= {key: Stored(store, store.entries[key]) for key in new}
            if new:
                with contextlib.suppress(OSError):  # a read-only folder
                    os.utime(path)
        return found

    def add(self, kind: str, jobs: Jobs, title: str, unit: str = "clip") -> dict[str, Stored]:
        """Compute arrays in parallel and store them; an interrupt keeps those that are computed.

        Args:
            kind: Beginning of the names of the stores, as "waveforms-32000".
            jobs: Functions that compute the arrays, by key.
            title: Title of the progress bar.
            unit: Name of one array in it. Default: "clip".

        Returns:
            Those that are stored now, by this process or by another one meanwhile. A folder that is full or cannot be
            written to is no error: a line says so once, and some are missing.
        """
        found = dict[str, Stored]()
        self.create()
        try:
            if self.path.is_dir() and not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "there is no permission")
            with folder_lock(self.path / _WRITER, wait=True):
                found = self.find(kind, jobs)
                rest = [(key, job) for key, job in jobs.items() if key not in found]
                for store in self._written(kind, track(in_order(rest), title, total=len(rest), unit=unit)):
                    found |= {key: Stored(store, entry) for key, entry in store.entries.items()}
        except (OSError, UserError) as error:
            reason = str(error).rstrip(".")
            if isinstance(error, OSError):  # without the name of the store, so that it is said once
                reason = (error.strerror or reason) + ("; free disk space" if no_room(error) else "")
            say_once(f"The cache {escaped(self.path)} cannot be written to, and work goes on without it: {reason}.")
        return found

    def stores(self, kind: str = "") -> list[Path]:
        """Paths of the stores of a kind, or of all kinds, in the order of their names."""
        try:
            names = sorted(os.listdir(self.path))
        except OSError:
            return []
        matches = ((name, _NAME.fullmatch(name)) for name in names)
        return [self.path / name for name, match in matches if match and (not kind or match["kind"] == kind)]

    def make_room(self, n_bytes: int) -> bool:
        """Remove the stores that were used longest ago and are not in use, until there is room.

        Args:
            n_bytes: Room that is needed.

        Returns:
            Whether there is as much room.
        """
        sizes: dict[Path, tuple[int, int]] = {}
        for path in self.stores():
            with contextlib.suppress(OSError):
                about = path.stat()
                sizes[path] = about.st_mtime_ns, about.st_size
        room = self.limit_bytes - sum(size for _, size in sizes.values())
        if n_bytes > self.limit_bytes:
            return False
        for path in sorted(sizes, key=lambda path: sizes[path]):
            if room >= n_bytes:
                break
            if not is_in_use(path):
                with contextlib.suppress(OSError):
                    path.unlink()
                    room += sizes[path][1]
        return room >= n_bytes

    def create(self) -> None:
        """Make the folder where that is possible; a UserError of `check` is passed on."""
        self.check()
        with contextlib.suppress(OSError):
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / TAG).is_file():
                write_text(self.path / TAG, _TAG_TEXT)

    def _written(self, kind: str, made: Iterator[tuple[str, Made | None]]) -> Iterator[StoreFile]:
        """Write arrays to one store after the other, each of up to STORE_BYTES, and open each store."""
        pending, stopped = next(made, None), None
        while pending is not None:
            path, granted = self.path / f"{kind}-{secrets.token_hex(8)}.store", 0
            with writing_store(path) as writer:
                try:
                    while pending is not None:
                        key, result = pending
                        if result is not None:
                            size = writer.n_bytes + result.array.nbytes
                            if writer.entries and size > STORE_BYTES:
                                break
                            if size > granted:
                                granted = next((n for n in (size + STEP_BYTES, size) if self.make_room(n)), 0)
                            if size > granted:
                                say_once(
                                    f"The cache {escaped(self.path)} is full (data.cache_gb="
                                    f"{self.limit_bytes / 1e9:g}); what does not fit is computed when it is needed."
                                )
                                pending = None
                                break
                            writer.add(key, result.array, result.about)
                        pending = next(made, None)
                except KeyboardInterrupt as stop:  # what is computed is kept
                    stopped = stop
            if stopped is not None:
                raise stopped
            if writer.entries:
                yield StoreFile(path)


def open_cache(place: str, limit_gb: float) -> CacheFolder | None:
    """The cache folder of the settings.

    Args:
        place: `data.cache`.
        limit_gb: `data.cache_gb`.

    Returns:
        The folder; None without `data.cache`.
    """
    return CacheFolder(Path(place), int(limit_gb * 1e9)) if place else None


def existing_cache(place: Path) -> CacheFolder:
    """A cache folder that is there, without a limit.

    Args:
        place: The folder.

    Returns:
        The folder.

    Raises:
        UserError: The folder is no cache folder.
    """
    found = CacheFolder(place, limit_bytes=1 << 62)
    if not (place / TAG).is_file() and not found.stores():
        raise UserError(
            f"A cache folder was expected, as data.cache=FOLDER makes it; {escaped(place)} has no {TAG} and no stores."
        )
    return found


@dataclass(frozen=True)
class StoreInfo:
    """Contents and state of one store.

    Attributes:
        path: The file.
        kind: "waveforms-RATE" or "features-FRONTEND".
        n_arrays: Number of arrays; those of clips that cannot be read included.
        n_bytes: Size of the file.
        used_s_ago: Seconds since it was last opened by a training.
        in_use: Whether a process has it open.
        damage: Clause that names the damage; "" = none is known.
    """

    path: Path
    kind: str
    n_arrays: int
    n_bytes: int
    used_s_ago: float
    in_use: bool
    damage: str = ""


def describe_stores(cache: CacheFolder, *, verify: bool = False) -> Iterator[StoreInfo]:
    """Describe the stores of a folder.

    Args:
        cache: The folder.
        verify: Whether every array is read and compared with its checksum. Default: False, only the index is.

    Yields:
        One description for each store.
    """
    for path in cache.stores():
        try:
            about, in_use = path.stat(), is_in_use(path)
            kind = path.name.rpartition("-")[0]
            used = max(0.0, time.time() - about.st_mtime)
            try:
                store = StoreFile(path)
            except DamagedError as error:
                yield StoreInfo(path, kind, 0, about.st_size, used, in_use, str(error))
                continue
            wrong = len(store.damaged()) if verify else 0
            damage = f"{wrong} of {len(store.entries)} arrays of {escaped(path)} are damaged" if wrong else ""
            yield StoreInfo(path, kind, len(store.entries), about.st_size, used, in_use, damage)
        except FileNotFoundError:  # removed meanwhile
            continue


def clear(cache: CacheFolder) -> tuple[int, int]:
    """Remove all stores that no process has open, and the hashes of recordings.

    Args:
        cache: The folder.

    Returns:
        Number of stores that were removed, and that are in use and stay.
    """
    n_removed = n_in_use = 0
    with folder_lock(cache.path / _WRITER):
        remove_leftovers(cache.path)
        for path in cache.stores():
            if is_in_use(path):
                n_in_use += 1
                continue
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                n_removed += 1
        for file in (cache.path / HASHES).glob("*.json"):
            file.unlink(missing_ok=True)
    if n_in_use:
        say(f"{n_in_use} stores are in use by a training and stay.")
    return n_removed, n_in_use
