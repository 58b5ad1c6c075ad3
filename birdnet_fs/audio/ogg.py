"""Ogg: the pages of a file and their damage, and seeking in Ogg Vorbis, by the page to start decoding from.

Sources: RFC 3533 (pages); the Vorbis I specification, A.2 (the headers have pages of their own, with granule
position 0). Seeking in libsndfile 1.2.2 is wrong by up to seconds in Ogg Vorbis. However, it decodes a file without
the pages between the headers and some later page, and reports the number of remaining samples correctly; the decoded
samples are bit-identical to those of the whole file.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

LARGEST_BLOCK = 8192  # samples; the first block after the gap is only needed to decode the second
PAGE = 65_307  # bytes, size of the largest page
NEAR = 1 << 16  # bytes, interval at which the bisection ends
LONGEST_PAGE = 255 * LARGEST_BLOCK  # samples: a page has at most 255 packets
CODECS = {b"\x01vorbis": "vorbis", b"OpusHead": "opus", b"\x7fFLAC": "flac", b"Speex   ": "speex"}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


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


@dataclass
class Chain:
    """One link of an Ogg file: the pages from the first page of its streams to the last."""

    begin: int  # byte offsets of the link
    end: int
    serial: bytes  # of the stream of audio
    codec: str  # "vorbis", "opus", "flac", "speex" or "" when it is none of these
    last: int = 0  # granule position of the last page that is intact
    stated: int = 0  # largest granule position, also of damaged pages: the true end
    ended: bool = False  # the last page has the end-of-stream flag
    n_damaged: int = 0  # damaged or missing pages before the last intact one
    damaged_at: int = 0  # granule position before the first of them
    damaged_end: bool = False  # pages behind the last intact one are damaged or incomplete
    sequence: int = 0  # number of the last intact page


def scan_pages(file: BinaryIO, begin: int, size: int) -> list[Chain]:
    """Check every page of an Ogg file by its checksum and number.

    Args:
        file: Open file.
        begin: Byte offset of the first page.
        size: Size of the file, bytes.

    Returns:
        The links; more than one where files were joined. [] when there is no intact first page.
    """
    chains: list[Chain] = []
    at, starting, lost = begin, False, False
    while at < size:
        file.seek(at)
        data = file.read(PAGE)
        page = _page(data)
        if page is None or not page.intact:
            if chains and page is not None and page.serial == chains[-1].serial:
                gain = page.sample - chains[-1].stated
                if 0 < gain < LONGEST_PAGE:
                    chains[-1].stated = page.sample
            lost = lost or not (chains and chains[-1].ended) or page is not None
            following = data.find(b"OggS", 1)
            at += following if following > 0 else max(1, len(data) - 3)
            continue
        if page.first:
            if not starting or not chains:
                _finish(chains, at, lost)
                chains.append(Chain(at, size, page.serial, page.codec))
                lost = False
            elif not chains[-1].codec and page.codec:
                chains[-1].serial, chains[-1].codec = page.serial, page.codec
        starting = page.first
        if chains and page.serial == chains[-1].serial:
            _add(chains[-1], page, lost)
            lost = False
        at += page.n_bytes
    _finish(chains, size, lost)
    return chains


def _add(chain: Chain, page: "_Checked", lost: bool) -> None:
    missing = page.sequence - chain.sequence - 1 if not page.first else 0
    if lost or missing > 0:
        chain.damaged_at = chain.damaged_at if chain.n_damaged else chain.last
        chain.n_damaged += max(1, missing)
    chain.sequence, chain.ended = page.sequence, page.last
    if page.sample >= 0:
        chain.last = page.sample
        chain.stated = max(chain.stated, page.sample)


def _finish(chains: list[Chain], end: int, lost: bool) -> None:
    if chains:
        chains[-1].end, chains[-1].damaged_end = end, lost


@dataclass(frozen=True)
class _Checked:
    """A page of which the header could be read."""

    n_bytes: int
    intact: bool
    serial: bytes
    sequence: int
    sample: int
    first: bool
    last: bool
    codec: str


def _page(data: bytes) -> _Checked | None:
    """The page at the start of `data`; None when there is no header of a page."""
    if len(data) < 27 or data[:5] != b"OggS\0":
        return None
    body = 27 + data[26]
    n_bytes = body + sum(data[27:body])
    page = data[:n_bytes]
    intact = len(page) == n_bytes and checksum(page[:22] + bytes(4) + page[26:]) == page[22:26]
    sample = struct.unpack("<q", data[6:14])[0]
    payload = page[body : body + 8]
    codec = next((name for magic, name in CODECS.items() if payload.startswith(magic)), "")
    sequence = int.from_bytes(data[18:22], "little")
    return _Checked(n_bytes, intact, data[14:18], sequence, sample, bool(data[5] & 2), bool(data[5] & 4), codec)


def checksum(page: bytes) -> bytes:
    """The CRC-32 of a page as Ogg computes it: zlib's with the bits of each byte and of the result reversed.

    Args:
        page: The page with zeros in the place of its checksum.

    Returns:
        Four bytes as they stand in the page.
    """
    value = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return value.to_bytes(4, "big").translate(_REVERSED)
