"""A store: one file with many arrays, an index of them at its end, and a checksum of each.

    arrays, each at a multiple of 64 bytes | index (JSON) | start, length and SHA-256 of the index, MAGIC

A store is written from start to end with `write`, never through a map: on a full disk that is an error, while writing
to a map would end the process (SIGBUS). It gets its name when it is whole and on the disk, and is never changed after.
Arrays are read through a map. The checksum of an array is compared when a process reads it for the first time.
"""

import json
import math
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.json_file import parse_json
from birdnet_fs.core.lock import mark_in_use
from birdnet_fs.core.text import escaped

MAGIC = b"BFSTORE1"
ALIGNMENT = 64  # bytes
DTYPES: dict[str, np.dtype[Any]] = {"int16": np.dtype("<i2"), "float32": np.dtype("<f4")}
MAX_DIMENSIONS = 4
_END = struct.Struct("<QQ32s8s")  # start, length and SHA-256 of the index, MAGIC


class DamagedError(ValueError):
    """A store or an array in it is damaged; the message is a clause that begins with the path."""


@dataclass(frozen=True)
class Entry:
    """An array of a store.

    Attributes:
        key: Name of the array, 64 hexadecimal digits.
        dtype: "int16" or "float32".
        shape: Up to 4 sizes; a size of 0 stands for a clip that cannot be read.
        start: First byte in the file, a multiple of ALIGNMENT.
        checksum: CRC-32 of its bytes.
        about: Further values, as JSON.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    checksum: int
    about: tuple[Any, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Size of the array in bytes."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


class StoreWriter:
    """Appends arrays to a new store; see `writing_store`.

    Args:
        file: The new file, open for writing.

    Attributes:
        entries: The arrays that are written so far.
        n_bytes: Size of the file so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.entries, self.n_bytes = file, list[Entry](), 0

    def add(self, key: str, array: np.ndarray, about: tuple[Any, ...] = ()) -> None:
        """Append an array.

        Args:
            key: 64 hexadecimal digits, not yet in the store.
            array: int16 or float32 [...], of up to 4 dimensions.
            about: Further values that JSON can hold.
        """
        array = np.ascontiguousarray(array)
        start = self._aligned()
        data = array.astype(DTYPES[str(array.dtype)], copy=False).reshape(-1).view(np.uint8).data
        self._file.write(data)
        self.n_bytes = start + len(data)
        self.entries.append(Entry(key, str(array.dtype), array.shape, start, zlib.crc32(data), about))

    def finish(self) -> None:
        """Write the index."""
        start = self._aligned()
        rows = [[e.key, e.dtype, e.shape, e.start, e.checksum, e.about] for e in self.entries]
        index = json.dumps(rows, separators=(",", ":")).encode("ascii")
        self._file.write(index + _END.pack(start, len(index), sha256(index).digest(), MAGIC))

    def _aligned(self) -> int:
        # an interrupted `add` leaves bytes behind the last array, which are part of none
        start = -(-self._file.tell() // ALIGNMENT) * ALIGNMENT
        self._file.write(bytes(start - self._file.tell()))
        return start


@contextmanager
def writing_store(path: Path) -> Iterator[StoreWriter]:
    """Context manager for writing a store atomically; with no array, nothing is written.

    Args:
        path: The new file.

    Yields:
        The writer; the store has its name when the block ends without an exception.
    """
    with atomic_path(path) as part, open(part, "wb") as file:
        writer = StoreWriter(file)
        yield writer
        writer.finish()
    if not writer.entries:
        path.unlink(missing_ok=True)


class StoreFile:
    """A store that is read. It counts as in use (`core.lock.is_in_use`) until the object is gone.

    Args:
        path: The file.

    Attributes:
        entries: The arrays by key.

    Raises:
        DamagedError: The file is not a whole store.
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "rb")  # noqa: SIM115, open as long as the store is in use
        mark_in_use(self._file.fileno())
        try:
            self.entries = {entry.key: entry for entry in self._index()}
        except DamagedError:
            self._file.close()
            raise
        self._map: mmap.mmap | None = None
        self._checked: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return StoreFile, (self.path,)  # a worker process that is not forked maps the file itself

    def array(self, entry: Entry) -> np.ndarray:
        """An array, mapped into memory.

        Args:
            entry: One of `entries`.

        Returns:
            int16 or float32 [*entry.shape], which cannot be written to.

        Raises:
            DamagedError: The checksum is another one.
        """
        dtype = DTYPES[entry.dtype]
        if not entry.n_bytes:
            return np.empty(entry.shape, dtype)
        if self._map is None:
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        flat = np.frombuffer(self._map, dtype, math.prod(entry.shape), entry.start)
        if entry.key not in self._checked:
            if zlib.crc32(flat.data) != entry.checksum:
                raise DamagedError(f"{escaped(self.path)} is damaged at byte {entry.start}")
            self._checked.add(entry.key)
        return flat.reshape(entry.shape)

    def damaged(self) -> list[Entry]:
        """All arrays with a wrong checksum, by reading all of them."""
        found = []
        for entry in self.entries.values():
            try:
                self.array(entry)
            except DamagedError:
                found.append(entry)
        return found

    def _index(self) -> list[Entry]:
        size = os.fstat(self._file.fileno()).st_size
        if size < _END.size:
            raise DamagedError(f"{escaped(self.path)} is not a whole store")
        self._file.seek(size - _END.size)
        start, length, digest, magic = _END.unpack(self._file.read(_END.size))
        if magic != MAGIC or start + length + _END.size != size:
            raise DamagedError(f"{escaped(self.path)} is not a whole store")
        self._file.seek(start)
        index = self._file.read(length)
        if sha256(index).digest() != digest:
            raise DamagedError(f"the index of {escaped(self.path)} is damaged")
        try:
            return [_checked_entry(*row, end=start) for row in parse_json(index)]
        except (ValueError, TypeError, KeyError):
            raise DamagedError(f"the index of {escaped(self.path)} is not one of this version") from None


def _checked_entry(key: Any, dtype: Any, shape: Any, start: Any, checksum: Any, about: Any, *, end: int) -> Entry:
    """An entry whose array is inside the file, whoever wrote the index; ValueError otherwise."""
    numbers = [*shape, start, checksum]
    if not (isinstance(key, str) and len(key) == 64 and len(shape) <= MAX_DIMENSIONS):
        raise ValueError(key)
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers) or start % ALIGNMENT:
        raise ValueError(numbers)
    entry = Entry(key, dtype, tuple(shape), start, checksum, tuple(about))
    if start + entry.n_bytes > end:
        raise ValueError(numbers)
    return entry
