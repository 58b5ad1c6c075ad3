"""Read-only views of an open file with bytes left out, replaced or added, to decode damaged files as they are."""

import bisect
import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Piece = tuple[int, int] | bytes  # byte offsets (begin, end) in the file, or bytes that are not in it
BUFFER = 1 << 17  # bytes per read from disk


class BufferedFile(io.BufferedReader):
    """Buffered reader for libsndfile that ignores seeks to invalid positions, which damaged headers cause."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw, BUFFER)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek as io.BufferedReader; an invalid position leaves the current one unchanged."""
        try:
            return super().seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return self.tell()


class FileView(io.RawIOBase):
    """Read-only view of pieces of a file.

    Args:
        file: Open file; it stays open.
        pieces: The pieces in the order of the view; empty ones are left out.
    """

    def __init__(self, file: io.BufferedReader | io.FileIO, pieces: Iterable[Piece]) -> None:
        self._file = file
        self._pieces = [piece for piece in pieces if (len(piece) if isinstance(piece, bytes) else piece[1] > piece[0])]
        self._starts = [0]
        for piece in self._pieces:
            n = len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
            self._starts.append(self._starts[-1] + n)
        self._at = 0

    def readable(self) -> bool:
        """Whether reading is supported."""
        return True

    def seekable(self) -> bool:
        """Whether seeking is supported."""
        return True

    def tell(self) -> int:
        """Byte position in the view."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the byte position in the view; returns the new position. ValueError: it is negative."""
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        if at < 0:
            raise ValueError(f"the position must be 0 or more. Received: {at}")
        self._at = at
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Read bytes into `buffer`; returns the number of bytes."""
        index = bisect.bisect_right(self._starts, self._at) - 1
        if index >= len(self._pieces):
            return 0
        piece, skip = self._pieces[index], self._at - self._starts[index]
        into = memoryview(buffer)[: self._starts[index + 1] - self._at]
        if isinstance(piece, bytes):
            into[:] = piece[skip : skip + len(into)]
            n = len(into)
        else:
            self._file.seek(piece[0] + skip)
            n = self._file.readinto(into) or 0
        self._at += n
        return n


def patched(begin: int, end: int, patches: Mapping[int, bytes]) -> tuple[Piece, ...]:
    """Pieces of the bytes begin..end of a file with some bytes replaced.

    Args:
        begin: Byte offset of the first byte.
        end: Byte offset behind the last byte.
        patches: Byte offset in the file -> bytes, which do not overlap.

    Returns:
        The pieces.
    """
    pieces: list[Piece] = []
    for offset, replacement in sorted(patches.items()):
        pieces += [(begin, offset), replacement]
        begin = offset + len(replacement)
    return (*pieces, (begin, end))
