"""Containers that state the size of their samples: where it stands, and what follows the samples.

Sources: RIFF, RF64 (EBU Tech 3306), AIFF-C and 8SVX (EA IFF 85), Sony Wave64, Apple's Core Audio Format and Sun AU;
rare_containers.py has others. libsndfile opens truncated files without an error and returns fewer samples, and reads
whatever follows the samples in some of them; the sizes are therefore compared with the size of the file.
"""

import re
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from birdnet_fs.audio.rare_containers import RARE
from birdnet_fs.audio.samples import MAX_CHUNKS, Samples

STREAMED_SIZE = 0x7FFFF000  # a data size of this or more is a placeholder of programs that write to a pipe
TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")  # of music players, behind the samples
PADDING = 4096  # zero bytes behind the samples that are taken for padding
W64_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"  # of the identifiers of Wave64, but the first


def find_samples(file: BinaryIO, begin: int, size: int) -> tuple[str, Samples | None]:
    """Find the samples of a container.

    Args:
        file: Open file.
        begin: Byte offset of the container.
        size: Size of the file, bytes.

    Returns:
        The kind of container, "" when it is none of these, and its samples; None when it states no size or is damaged
        before it.
    """
    file.seek(begin)
    head = file.read(64)
    for kind, (pattern, find) in KINDS.items():
        if pattern.match(head):
            try:
                return kind, find(file, begin, size)
            except (struct.error, ValueError, IndexError, OverflowError):
                return kind, None
    return "", None


def chunks_follow(file: BinaryIO, samples: Samples, offset: int, size: int) -> bool:
    """Whether the bytes after the samples are further chunks or padding.

    Args:
        file: Open file.
        samples: The samples.
        offset: Byte offset behind them.
        size: Size of the file, bytes.

    Returns:
        False when they look like further samples.
    """
    if samples.chunks == "w64":
        offset += -offset % 8
    elif samples.chunks:
        offset += offset % 2
    if size - offset < max(8, samples.align):
        return True
    file.seek(offset)
    head = file.read(24).ljust(24, b"\0")
    if head.startswith(TAGS):
        return True
    if samples.chunks == "w64":
        if head[4:16] == W64_TAIL:
            return True
    elif samples.chunks:
        length = (
            struct.unpack(">q", head[4:12])
            if samples.chunks == "caf"
            else struct.unpack(samples.chunks + "I", head[4:8])
        )
        if all(32 <= c < 127 for c in head[:4]) and length[0] >= 0 and offset + 8 + length[0] <= size + 1:
            return True
    file.seek(offset)
    return size - offset <= PADDING and not file.read().strip(b"\0")


def next_container(file: BinaryIO, kind: str, samples: Samples, size: int) -> int | None:
    """The byte offset of a second container of the same kind behind the samples; None when there is none.

    Args:
        file: Open file.
        kind: A key of KINDS.
        samples: The samples of the first container; their size is stated.
        size: Size of the file, bytes.

    Returns:
        Byte offset of the second header.
    """
    at = samples.begin + (samples.n_bytes or 0)
    for _ in range(MAX_CHUNKS):
        for offset in (at, at + at % 2, at + -at % 8):
            file.seek(offset)
            head = file.read(64)
            if KINDS[kind][0].match(head):
                return offset
        if len(samples.chunks) != 1 or len(head) < 8:  # chunks of RIFF and FORM may stand between
            return None
        at += at % 2
        file.seek(at)
        name, length = struct.unpack(samples.chunks + "4sI", file.read(8).ljust(8, b"\0"))
        if not all(32 <= c < 127 for c in name) or at + 8 + length >= size:
            return None
        at += 8 + length
    return None


def _chunks(file: BinaryIO, begin: int, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """(name, offset of the content, stated length) of the chunks from byte `begin`."""
    for _ in range(MAX_CHUNKS):
        if begin + 8 > size:
            return
        file.seek(begin)
        name, length = struct.unpack(order + "4sI", file.read(8))
        yield name, begin + 8, length
        begin += 8 + length
        if length % 2:  # the padding byte is missing in files of some programs
            file.seek(begin)
            follows = file.read(5)
            begin += 1 if follows[:1] == b"\0" or not follows[:4].isalnum() else 0


def _wave(file: BinaryIO, begin: int, size: int) -> Samples | None:
    file.seek(begin)
    order = ">" if file.read(4) == b"RIFX" else "<"
    align, long_at, long_size = 1, 0, None
    for name, at, length in _chunks(file, begin + 12, size, order):
        if name == b"fmt ":
            file.seek(at + 12)
            align = max(1, struct.unpack(order + "H", file.read(2))[0])
        elif name == b"ds64":
            file.seek(at + 8)
            long_at, long_size = at + 8, struct.unpack("<Q", file.read(8))[0]
        elif name == b"data":
            if length == 0xFFFFFFFF and long_size is not None:
                return Samples(at, long_size, long_at, "<Q", 0, align, order)
            if length >= STREAMED_SIZE and length > size - at:
                return Samples(at, None)
            if long_at:
                return Samples(at, length, 0, "", 0, align, order)
            return Samples(at, length, at - 4, order + "I", 0, align, order)
    return None


def _iff(file: BinaryIO, begin: int, size: int) -> Samples | None:
    """AIFF, AIFF-C and 8SVX."""
    file.seek(begin + 8)
    amiga = file.read(4) in (b"8SVX", b"16SV")
    for name, at, length in _chunks(file, begin + 12, size, ">"):
        if name == b"BODY" and amiga:
            return Samples(at, length, at - 4, ">I", 0, 1, ">", reads_on=True)
        if name == b"SSND":
            return Samples(at + 8, max(0, length - 8), 0, "", 8, 1, ">")
    return None


def _wave64(file: BinaryIO, begin: int, size: int) -> Samples | None:
    at, align = begin + 40, 1
    for _ in range(MAX_CHUNKS):
        if at + 24 > size:
            break
        file.seek(at)
        name, length = struct.unpack("<4s12xQ", file.read(24))
        if name == b"fmt ":
            file.seek(at + 24 + 12)
            align = max(1, struct.unpack("<H", file.read(2))[0])
        if name == b"data":
            if length >= 1 << 62:
                return Samples(at + 24, None)
            return Samples(at + 24, max(0, length - 24), at + 16, "<Q", 24, align, "w64", reads_on=True)
        at += max(24, length + -length % 8)
    return None


def _core_audio(file: BinaryIO, begin: int, size: int) -> Samples | None:
    at, align = begin + 8, 1
    for _ in range(MAX_CHUNKS):
        if at + 12 > size:
            break
        file.seek(at)
        name, length = struct.unpack(">4sq", file.read(12))
        if name == b"desc":
            file.seek(at + 12 + 16)
            align = max(1, struct.unpack(">I", file.read(4))[0])
        if name == b"data":
            if length < 4:
                return Samples(at + 16, None if length == -1 else 0, at + 4, ">q", 4, align, "caf")
            return Samples(at + 16, length - 4, at + 4, ">q", 4, align, "caf")
        at += 12 + max(0, length)
    return None


def _au(file: BinaryIO, begin: int, size: int) -> Samples | None:
    file.seek(begin)
    head = file.read(24)
    order = ">" if head[:4] == b".snd" else "<"
    offset, length = struct.unpack(order + "II", head[4:12])
    stated = None if length == 0xFFFFFFFF else length
    return Samples(begin + offset, stated, begin + 8, order + "I")


KINDS: dict[str, tuple[re.Pattern[bytes], Callable[[BinaryIO, int, int], Samples | None]]] = {
    "wav": (re.compile(rb"(RIFF|RIFX|RF64|BW64)....WAVE", re.DOTALL), _wave),
    "aiff": (re.compile(rb"FORM....AIF[FC]", re.DOTALL), _iff),
    "svx": (re.compile(rb"FORM....(8SVX|16SV)", re.DOTALL), _iff),
    "w64": (re.compile(rb"riff\x2e\x91\xcf\x11.{16}wave", re.DOTALL), _wave64),
    "caf": (re.compile(rb"caff\x00\x01"), _core_audio),
    "au": (re.compile(rb"\.snd|dns\."), _au),
    **RARE,
}
"""Kind -> (how it begins, where its samples are). All of them state a length."""
