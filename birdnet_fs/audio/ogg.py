"""Where to begin in an Ogg Vorbis file: the pages before a sample, found by bisection.

libsndfile 1.2.2 seeks in Ogg Vorbis wrongly, by up to seconds. But it decodes a file from which the pages between the
headers and some page are left out, and says how many samples are left: what it decodes is equal, to the last bit, to
the same samples of the whole file. Sources: RFC 3533 (pages), the Vorbis I specification, A.2 (the headers have pages
of their own, with granule position 0).
"""

import io
import struct
from typing import NamedTuple

LARGEST_BLOCK = 8192  # samples: the first block behind the gap only serves to decode the second
PAGE = 65_307  # bytes of the largest page
NEAR = 1 << 16  # bytes within which bisection ends


class Page(NamedTuple):
    """One page: where it stands, and the sample at which the packets that end on it end (-1: none does)."""

    begin: int
    end: int
    sample: int
    serial: bytes
    continued: bool


def gap_before(file: io.FileIO, size: int, sample: int) -> tuple[int, int] | None:
    """Bytes (begin, end) to leave out so that decoding starts at or shortly before `sample`; None: nothing fits."""
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
    """The page that begins at this byte, None if none does."""
    file.seek(begin)
    head = file.read(27 + 255)
    if len(head) < 27 or head[:5] != b"OggS\0":
        return None
    body = 27 + head[26]
    sample = struct.unpack("<q", head[6:14])[0]
    return Page(begin, begin + body + sum(head[27:body]), sample, head[14:18], bool(head[5] & 1))


def next_page(file: io.FileIO, begin: int, end: int, serial: bytes) -> Page | None:
    """The first page of a stream between two bytes on which a packet ends."""
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
    """A read-only view of a file without its bytes begin..end."""

    def __init__(self, file: io.FileIO, begin: int, end: int, size: int) -> None:
        self._file, self._begin, self._gap, self._size = file, begin, end - begin, size - (end - begin)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        before = self._at < self._begin
        self._file.seek(self._at if before else self._at + self._gap)
        n = self._file.readinto(memoryview(buffer)[: self._begin - self._at] if before else buffer)
        self._at += n
        return n
