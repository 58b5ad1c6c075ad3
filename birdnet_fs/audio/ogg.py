"""Seeking in Ogg Vorbis files: the page to start decoding from, found by bisection.

Sources: RFC 3533 (pages); the Vorbis I specification, A.2 (the headers have pages of their own, with granule
position 0). Seeking in libsndfile 1.2.2 is wrong by up to seconds in Ogg Vorbis. However, it decodes a file without
the pages between the headers and some later page, and reports the number of remaining samples correctly; the decoded
samples are bit-identical to those of the whole file.
"""

import io
import struct
from typing import NamedTuple

LARGEST_BLOCK = 8192  # samples; the first block after the gap is only needed to decode the second
PAGE = 65_307  # bytes, size of the largest page
NEAR = 1 << 16  # bytes, interval at which the bisection ends


class Page(NamedTuple):
    """Position and header fields of one Ogg page."""

    begin: int  # byte offset of the first byte
    end: int  # byte offset behind the last byte
    sample: int  # granule position: end of the last packet that ends on this page; -1 = no packet ends here
    serial: bytes  # serial number of the stream
    continued: bool  # whether the page starts inside a packet


def gap_before(file: io.FileIO, size: int, sample: int) -> tuple[int, int] | None:
    """Find the pages to omit so that decoding starts at or shortly before a sample.

    Args:
        file: Open Ogg Vorbis file.
        size: Size of the file, bytes.
        sample: Index of the wanted sample.

    Returns:
        Byte offsets (begin, end) of the omitted part, or None when no page before `sample` can be omitted.
    """
    header = first = page_at(file, 0)
    while first is not None and first.sample == 0:
        first = page_at(file, first.end)
    if header is None or first is None or first.sample < 0 or first.serial != header.serial:
        return None
    low, high = first, size
    while high - low.end > NEAR:
        middle = next_page(file, (low.end + high) // 2, high, first.serial)
        if middle is not None and middle.sample + LARGEST_BLOCK <= sample:
            low = middle
        else:
            high = (low.end + high) // 2
    end: int | None = None
    page: Page | None = low
    while page is not None and page.sample + LARGEST_BLOCK <= sample and page.serial == first.serial:
        following = page_at(file, page.end)
        if page.sample >= 0 and following is not None and not following.continued:
            end = page.end
        page = following
    return None if end is None else (first.begin, end)


def page_at(file: io.FileIO, begin: int) -> Page | None:
    """Read the page that begins at a byte offset; None when there is no page."""
    file.seek(begin)
    head = file.read(27 + 255)
    if len(head) < 27 or head[:5] != b"OggS\0":
        return None
    body = 27 + head[26]
    sample = struct.unpack("<q", head[6:14])[0]
    return Page(begin, begin + body + sum(head[27:body]), sample, head[14:18], bool(head[5] & 1))


def next_page(file: io.FileIO, begin: int, end: int, serial: bytes) -> Page | None:
    """Find the first page of a stream on which a packet ends.

    Args:
        file: Open Ogg file.
        begin: First byte of the search.
        end: Byte offset that the page must begin before.
        serial: Serial number of the stream.

    Returns:
        The page, or None when there is none.
    """
    while begin < end:
        file.seek(begin)
        data = file.read(PAGE + 4)
        at = data.find(b"OggS")
        if at < 0:
            begin += max(1, len(data) - 3)
            continue
        page = page_at(file, begin + at)
        if page is not None and page.serial == serial and page.sample >= 0 and page.begin < end:
            return page
        begin += at + 1
    return None


class FileWithoutRange(io.RawIOBase):
    """Read-only view of a file that omits the bytes begin..end."""

    def __init__(self, file: io.FileIO, begin: int, end: int, size: int) -> None:
        self._file, self._begin, self._gap, self._size = file, begin, end - begin, size - (end - begin)
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
        """Set the byte position in the view; returns the new position."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """Read bytes into `buffer`; returns the number of bytes."""
        before = self._at < self._begin
        self._file.seek(self._at if before else self._at + self._gap)
        n = self._file.readinto(memoryview(buffer)[: self._begin - self._at] if before else buffer)
        self._at += n
        return n
