"""MPEG audio (MP3, MP2): its frames, their number, and a view that libsndfile reads whole.

Sources: ISO/IEC 11172-3 and 13818-3 (frame headers), the Xing/Info, LAME and VBRI headers, ID3 and APE tags. The length
of a stream follows from its frames only. libsndfile 1.2.2 takes it from a Xing header or, without one, estimates it
from the size of the file and of the first frame, and reads no further: a variable bit rate without that header, or a
second file behind the first, cost the rest of the audio. The frames are therefore counted here wherever no header of
the right length is there, and the view given to libsndfile holds a header with their number and nothing but frames.
"""

import re
import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from birdnet_fs.audio.file_view import Piece

BIT_RATES = {  # (MPEG 1, layer) -> kbit/s by index
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES_HZ = (44_100, 48_000, 32_000)  # of MPEG 1; half of it in MPEG 2, a quarter in MPEG 2.5
CHUNK = 1 << 20  # bytes per read
SURE = 3  # consecutive frames that make a synchronization certain
ID3_BYTES = 10
EMPTY_ID3 = b"ID3\4\0\0\0\0\0\x0a" + bytes(10)  # libsndfile detects MPEG audio by it whatever lies beside the file
_MAY_BEGIN = re.compile(rb"\xff[\xe2-\xff]|ID3|TAG|APETAGEX|LYRICSBEGIN")


@dataclass(frozen=True)
class Frame:
    """The header of one frame."""

    n_bytes: int
    n_samples: int  # per channel
    rate_hz: int
    layer: int
    kind: int  # bits that are the same in all frames of a stream
    side_bytes: int  # header and side information of layer III, before a Xing header


def parse_frame(head: bytes) -> Frame | None:
    """Parse the four bytes of a frame header; None when they are none, or of a frame of free format."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or not 0 < index < 15 or rate_index == 3:
        return None
    first = version == 3
    rate = RATES_HZ[rate_index] >> (0 if first else 1 if version == 2 else 2)
    bit_rate = BIT_RATES[first, layer][index] * 1000
    padding = head[2] >> 1 & 1
    n_samples = 384 if layer == 1 else 576 if layer == 3 and not first else 1152
    size = (12 * bit_rate // rate + padding) * 4 if layer == 1 else n_samples // 8 * bit_rate // rate + padding
    mono = head[3] >> 6 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    kind = (head[1] & 0xFE) << 8 | rate_index << 2 | int(mono)
    return Frame(size, n_samples, rate, layer, kind, 4 + side)


@dataclass
class Stream:
    """One MPEG stream of a file: the frames of one encoding."""

    first: Frame
    first_head: bytes  # the four bytes of its header
    runs: list[tuple[int, int]] = field(default_factory=list)  # byte offsets (begin, end) of consecutive frames
    n_frames: int = 0  # without the frame that holds the Xing, Info or VBRI header
    stated: int | None = None  # number of frames according to that header
    header: tuple[int, int] | None = None  # byte offsets of that frame
    counted_at: int = 0  # byte offset of the number of frames in it
    gaps: list[tuple[int, int]] = field(default_factory=list)  # (frames before, bytes) that are neither frame nor tag
    cut: bool = False  # the last frame is incomplete

    @property
    def n_samples(self) -> int:
        """Samples per channel of all frames."""
        return self.n_frames * self.first.n_samples

    def pieces(self) -> tuple[Piece, ...]:
        """A view that libsndfile reads whole: a header with the number of frames, then the frames."""
        if self.header is not None and self.counted_at:
            number = struct.pack(">I", self.n_frames)
            begin, end = self.header
            opening: list[Piece] = [(begin, self.counted_at), number, (self.counted_at + 4, end)]
        else:
            opening = [self._new_header()] if self.first.layer == 3 else []
        frames = [EMPTY_ID3, *opening, *self.runs]
        if not opening:  # layers I and II have no such header: bytes that are no frames make the estimate long enough
            frames.append(bytes(self.n_frames * 64 + 4096))
        return tuple(frames)

    def _new_header(self) -> bytes:
        """A silent frame of layer III with a Xing header that states the number of frames."""
        one, two, three = self.first_head[1] | 1, self.first_head[2], self.first_head[3]
        for index in range(8, 15):  # a bit rate at which the header fits
            head = bytes((0xFF, one, index << 4 | two & 0x0C, three))
            frame = parse_frame(head)
            if frame is not None and frame.n_bytes >= frame.side_bytes + 16:
                xing = b"Xing" + struct.pack(">II", 1, self.n_frames)
                return (head.ljust(frame.side_bytes, b"\0") + xing).ljust(frame.n_bytes, b"\0")
        return b""


def scan(file: BinaryIO, begin: int, end: int) -> list[Stream]:
    """Find all frames of a part of a file.

    A Xing, Info or VBRI header behind other frames begins a new stream, since encoders write it at the start only; so
    does another version, layer or sample rate.

    Args:
        file: Open file.
        begin: Byte offset of the first byte.
        end: Byte offset behind the last byte.

    Returns:
        The streams, in order; [] when there are no frames.
    """
    window, streams, at = _Window(file), list[Stream](), begin
    while True:
        at, skipped = _synchronize(window, at, end)
        if at >= end:
            if streams and skipped and not streams[-1].cut:
                streams[-1].gaps.append((streams[-1].n_frames, skipped))
            return [stream for stream in streams if stream.n_frames]
        first = window.frame(at)
        if first is None:
            raise AssertionError("_synchronize stops at a frame")
        if not streams or streams[-1].first.kind != first.kind:
            streams.append(Stream(first, window.at(at, 4)))
        elif skipped:
            streams[-1].gaps.append((streams[-1].n_frames, skipped))
        at = _read_run(window, at, end, streams)


def _read_run(window: "_Window", at: int, end: int, streams: list[Stream]) -> int:
    """Add the consecutive frames from byte `at` to the last stream, or new ones; returns the end of the last frame."""
    stream = streams[-1]
    while at < end:
        frame = window.frame(at)
        if frame is None or frame.kind != stream.first.kind:
            break
        behind = at + frame.n_bytes
        if behind > end:
            stream.cut = True
            break
        counted = _count(window, at, frame)
        if counted is None:
            if stream.runs and stream.runs[-1][1] == at:
                stream.runs[-1] = (stream.runs[-1][0], behind)
            else:
                stream.runs.append((at, behind))
            stream.n_frames += 1
        else:
            if stream.n_frames or stream.header:
                stream = Stream(stream.first, window.at(at, 4))
                streams.append(stream)
            stream.header, (stream.counted_at, stream.stated) = (at, behind), counted
        at = behind
    return at


def _synchronize(window: "_Window", at: int, end: int) -> tuple[int, int]:
    """The byte offset of the next certain frame, `end` if there is none, and the bytes before it that are no tag."""
    skipped = 0
    while at < end:
        if _is_certain(window, at, end):
            return at, skipped
        if tag := _tag_bytes(window, at):
            at += tag
            continue
        following = window.next_sync(at + 1, end)
        skipped += following - at
        at = following
    return end, skipped


def _is_certain(window: "_Window", at: int, end: int) -> bool:
    """Whether `SURE` consecutive frames of one kind begin at a byte, or fewer that end with the file or at a tag."""
    frame = first = window.frame(at)
    for _ in range(SURE):
        if frame is None or first is None or frame.kind != first.kind:
            return False
        at += frame.n_bytes
        if at >= end or _tag_bytes(window, at):
            return at <= end
        frame = window.frame(at)
    return True


def _tag_bytes(window: "_Window", at: int) -> int:
    """Length of the ID3, APE or Lyrics3 tag that begins at a byte; 0 when there is none."""
    head = window.at(at, 32)
    if head[:3] == b"ID3" and len(head) >= ID3_BYTES and max(head[6:10]) < 128:
        size = sum(b << s for b, s in zip(head[6:10], (21, 14, 7, 0), strict=True))
        return ID3_BYTES + size + (ID3_BYTES if head[5] & 16 else 0)
    if head[:3] == b"TAG":
        return 227 if head[3:4] == b"+" else 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        size, _, flags = struct.unpack("<III", head[12:24])
        return size + 32 if flags >> 29 & 1 else 32  # the size holds the items and the footer
    if head[:11] == b"LYRICSBEGIN":
        found = window.at(at, CHUNK).find(b"LYRICS200")
        return found + 9 if found > 0 else 0
    return 0


def _count(window: "_Window", at: int, frame: Frame) -> tuple[int, int | None] | None:
    """Offset of the number of frames in a Xing, Info or VBRI header, and that number; None = an ordinary frame."""
    if frame.layer != 3:
        return None
    place = at + frame.side_bytes
    name = window.at(place, 4)
    if name in (b"Xing", b"Info"):
        flags, number = struct.unpack(">II", window.at(place + 4, 8).ljust(8, b"\0"))
        return (place + 8, number) if flags & 1 else (0, None)
    if window.at(at + 36, 4) == b"VBRI":
        return at + 36 + 14, int.from_bytes(window.at(at + 36 + 14, 4), "big")
    return None


class _Window:
    """Buffered access to a file by byte offset."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._begin, self._data = file, 0, b""
        self._parsed: dict[bytes, Frame | None] = {}

    def at(self, offset: int, n: int) -> bytes:
        """`n` bytes from an offset, fewer at the end of the file."""
        start = offset - self._begin
        if start < 0 or start + n > len(self._data):
            self._file.seek(offset)
            self._begin, self._data, start = offset, self._file.read(CHUNK), 0
        return self._data[start : start + n]

    def frame(self, offset: int) -> Frame | None:
        """The frame header at an offset."""
        head = self.at(offset, 4)
        if head not in self._parsed:
            if len(self._parsed) > 1 << 12:
                self._parsed.clear()
            self._parsed[head] = parse_frame(head)
        return self._parsed[head]

    def next_sync(self, offset: int, end: int) -> int:
        """The offset of the next byte that a frame header or a tag may begin with, `end` when there is none."""
        while offset < end:
            data = self.at(offset, min(1 << 14, end - offset))
            found = _MAY_BEGIN.search(data)
            if found:
                return offset + found.start()
            offset += max(1, len(data))
        return end
