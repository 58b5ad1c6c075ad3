"""Inspection and repair of audio file headers, before decoding.

Sources: the RIFF, RF64 (EBU Tech 3306), AIFF-C and Ogg (RFC 3533) layouts, FLAC (RFC 9639), the Xing/Info header of
MP3. libsndfile opens truncated files and files with a wrong header without an error and returns a short array, so the
sizes in the header are compared with the size of the file here. Wrong sizes are repaired in a view of the file
(`PatchedFile`); the file itself is never modified.
"""

import io
import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

EXTENSIONS = {  # libsndfile's name of a format -> its file name extensions
    "WAV": (".wav", ".wave"),
    "RF64": (".rf64", ".wav", ".wave", ".bw64"),
    "W64": (".w64",),
    "FLAC": (".flac",),
    "OGG": (".ogg", ".oga", ".opus"),
    "MP3": (".mp3", ".mp2", ".mp1", ".mpga"),
    "AIFF": (".aif", ".aiff", ".aifc"),
    "CAF": (".caf", ".caff"),
    "AU": (".au", ".snd"),
    "NIST": (".nist", ".sph"),
    "VOC": (".voc",),
    "SVX": (".svx", ".8svx", ".iff"),
    "PAF": (".paf", ".fap"),
    "IRCAM": (".sf", ".ircam"),
    "AVR": (".avr",),
    "PVF": (".pvf",),
    "SDS": (".sds",),
    "HTK": (".htk",),
    "WVE": (".wve",),
}
CONVERT = "convert it first, as with: ffmpeg -i INPUT OUTPUT.flac"
WILDLIFE = "convert it to WAV first, with Kaleidoscope or wac2wavcmd of Wildlife Acoustics"
FOREIGN = (  # (offset, magic number, format, advice) of audio that libsndfile cannot decode
    (4, b"ftyp", "MP4 audio (m4a, m4b, 3gp; AAC or ALAC)", CONVERT),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media audio (wma)", CONVERT),
    (0, b"\xff\xf1", "AAC audio (ADTS)", CONVERT),
    (0, b"\xff\xf9", "AAC audio (ADTS)", CONVERT),
    (0, b"ADIF", "AAC audio (ADIF)", CONVERT),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM audio", CONVERT),
    (0, b"wvpk", "WavPack audio", CONVERT),
    (0, b"MAC ", "Monkey's Audio", CONVERT),
    (0, b"#!AMR", "AMR audio", CONVERT),
    (0, b"\x0b\x77", "AC-3 audio", CONVERT),
    (0, b"DSD ", "DSD audio (dsf)", CONVERT),
    (0, b"FRM8", "DSD audio (dff)", CONVERT),
    (0, b"TTA1", "TTA audio", CONVERT),
    (0, b"tBaK", "TAK audio", CONVERT),
    (0, b"MPCK", "Musepack audio", CONVERT),
    (0, b"MP+", "Musepack audio", CONVERT),
    (0, b".RMF", "RealAudio", CONVERT),
    (0, b"ajkg", "Shorten audio", CONVERT),
    (8, b"AVI ", "AVI video", CONVERT),
    (0, b"WAAC", "Wildlife Acoustics audio (wac)", WILDLIFE),
)
UNREADABLE = {  # extension of a sound format that cannot be decoded -> advice
    **dict.fromkeys((".m4a", ".m4b", ".m4r", ".mp4", ".aac", ".3gp", ".3g2", ".amr", ".awb", ".mov", ".qt"), CONVERT),
    **dict.fromkeys((".wma", ".asf", ".wv", ".ape", ".tta", ".tak", ".shn", ".mpc", ".ra", ".rm", ".spx"), CONVERT),
    **dict.fromkeys((".webm", ".mka", ".mkv", ".avi", ".mts", ".ac3", ".eac3", ".dts", ".dsf", ".dff"), CONVERT),
    **dict.fromkeys((".wac", ".w4v"), WILDLIFE),
}
NOT_AUDIO = (
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "XML"),
    (b"%pdf", "a PDF"),
    (b"pk\x03\x04", "a zip archive"),
)
STREAMED_SIZE = 0x7FFFF000  # a data size of this or more is a placeholder of programs that write to a pipe
HEAD = 1 << 16  # bytes inspected at the start of a file
BUFFER = 1 << 17  # bytes per read from disk


class AudioError(UserError):
    """A file that cannot be used as audio.

    Args:
        reason: The cause in one sentence.
        path: The file.
    """

    def __init__(self, reason: str, path: Path | str = "") -> None:
        super().__init__(reason, os.fspath(path))
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return f"{escaped(self.path)}: {self.reason}"


@dataclass(frozen=True)
class Header:
    """Result of the inspection of a header."""

    kind: str  # "wav", "aiff", "flac", "ogg", "mp3" or "" (detected by libsndfile)
    patches: Mapping[int, bytes] = field(default_factory=dict)  # byte offset -> bytes that repair the header
    declared: int | None = None  # samples per channel in a FLAC header; 0 = unknown
    flags: tuple[str, ...] = ()  # "header_repaired", "length_unknown"
    truncated: str = ""  # reason why the file is known to be incomplete; "" = complete as far as known
    vorbis: bool = False  # whether an Ogg file holds Vorbis audio


def inspect_header(file: BinaryIO, size: int, path: Path | str) -> Header:
    """Inspect the first and last bytes of an open file and compare the sizes in them with the size of the file.

    Args:
        file: File opened for reading, at its start.
        size: Size of the file, bytes.
        path: Path used in errors.

    Returns:
        The format, repairs of the header, and signs of damage.

    Raises:
        AudioError: The file is empty, has a format that cannot be decoded, or is not audio.
    """
    head = file.read(HEAD)
    if size == 0 or not head:
        raise AudioError("the file is empty (0 bytes).", path)
    if not head.strip(b"\0"):
        raise AudioError("the file holds only zero bytes where its header should be.", path)
    for offset, magic, what, advice in FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            raise AudioError(f"{what} cannot be read; {advice}.", path)
    text = head[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, what in NOT_AUDIO:
        if text.startswith(magic):
            raise AudioError(f"this is {what}, not audio.", path)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _chunked(file, size, "wav", ">" if head[:4] == b"RIFX" else "<", b"data")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _chunked(file, size, "aiff", ">", b"SSND")
    if head[:4] == b"OggS":
        return _ogg(file, size, head)
    start = 0
    if head[:3] == b"ID3" and len(head) > 10:
        start = 10 + sum(b << s for b, s in zip(head[6:10], (21, 14, 7, 0), strict=True))
        file.seek(start)
        head = file.read(HEAD)
    if head[:4] == b"fLaC" and len(head) >= 42:
        return _flac(head, start)
    if len(head) > 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _mp3(head, size - start)
    return Header("mp3" if start else "")


def _chunked(file: BinaryIO, size: int, kind: str, end: str, wanted: bytes) -> Header:
    """Inspect WAV, RF64 and AIFF: find the chunk of samples and compare its size with that of the file."""
    offset, long_size, long_at, align = 12, None, 0, 1
    while offset + 8 <= size:
        file.seek(offset)
        name, length = struct.unpack(end + "4sI", file.read(8))
        if name == b"fmt ":
            fmt = file.read(16)
            align = max(1, struct.unpack(end + "H", fmt[12:14])[0]) if len(fmt) == 16 else 1
        elif name == b"ds64":
            long_at, long_size = offset + 16, struct.unpack("<Q", file.read(16)[8:].ljust(8, b"\0"))[0]
        elif name == wanted:
            begin = offset + 8
            left = size - begin
            if length == 0xFFFFFFFF and long_size is not None:
                length = long_size
            elif kind == "wav" and length >= STREAMED_SIZE and length > left:
                return Header(kind, flags=("length_unknown",))
            if length > left:
                return Header(kind, truncated=f"the header declares {length} bytes of samples, the file holds {left}.")
            if kind == "wav" and left - length >= align and not _chunks_follow(file, begin + length, size, end):
                whole = left - left % align
                small = struct.pack(end + "I", min(whole, 0xFFFFFFFF))
                patch = {long_at: struct.pack("<Q", whole)} if long_at else {offset + 4: small}
                reason = f"the header declares {length} bytes of samples, the file holds {left}; all were read."
                return Header(kind, patch, flags=("header_repaired",), truncated=reason)
            return Header(kind)
        offset += 8 + length + length % 2
    return Header(kind)


def _chunks_follow(file: BinaryIO, offset: int, size: int, end: str) -> bool:
    """Whether the bytes after the samples are further chunks or a short padding."""
    offset += offset % 2
    if size - offset < 8:
        return True
    file.seek(offset)
    first = file.read(8)
    name, length = struct.unpack(end + "4sI", first)
    if all(32 <= c < 127 for c in name) and offset + 8 + length <= size + 1:
        return True
    file.seek(offset)
    return size - offset <= 4096 and not file.read().strip(b"\0")


def _flac(head: bytes, start: int) -> Header:
    """Inspect FLAC: the patch sets the length in STREAMINFO (36 bits) to 0, unknown, to decode up to the true end."""
    value = int.from_bytes(head[18:26], "big")
    mended = (value >> 36 << 36).to_bytes(8, "big")
    return Header("flac", {start + 18: mended}, declared=value & (1 << 36) - 1)


def _ogg(file: BinaryIO, size: int, head: bytes) -> Header:
    """Inspect Ogg: a complete stream ends with a complete page that has the end-of-stream flag."""
    file.seek(max(0, size - 2 * HEAD))
    tail = file.read()
    at = tail.rfind(b"OggS")
    page = tail[at:] if at >= 0 else b""
    whole = (
        len(page) >= 27 and len(page) >= 27 + page[26] and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
    )
    reason = "" if whole and page[5] & 4 else "the file ends before the end-of-stream mark."
    return Header("ogg", truncated=reason, vorbis=b"\x01vorbis" in head[:128])


def _mp3(head: bytes, size: int) -> Header:
    """Inspect MP3: the Xing/Info header, if present, holds the number of bytes of the stream."""
    at = next((i for i in (head.find(b"Xing", 0, 200), head.find(b"Info", 0, 200)) if i >= 0), -1)
    if at < 0 or len(head) < at + 16:
        return Header("mp3")
    present = head[at + 7]
    if present & 2:
        place = at + 8 + (4 if present & 1 else 0)
        promised = int.from_bytes(head[place : place + 4], "big")
        if 0 < size < promised:
            return Header("mp3", truncated=f"the header declares {promised} bytes of sound, the file holds {size}.")
    return Header("mp3")


def open_file(path: Path | str) -> tuple[BinaryIO, int]:
    """Open a regular file for reading.

    Args:
        path: The file.

    Returns:
        The open file and its size in bytes.

    Raises:
        AudioError: The file is missing, a folder or a device, or there is no permission to read it.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise AudioError("this is a folder, not an audio file.", path)
        if not stat.S_ISREG(status.st_mode):
            raise AudioError("this is a device or a pipe, not an audio file.", path)
        return BufferedFile(io.FileIO(path)), status.st_size
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError("the file does not exist.", path) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AudioError(f"the file cannot be opened ({why}).", path) from None


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


class PatchedFile(io.FileIO):
    """Read-only view of an open file with some bytes replaced."""

    def __init__(self, file: BinaryIO, patches: Mapping[int, bytes]) -> None:
        super().__init__(file.fileno(), closefd=False)
        self._patches = patches

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def,override]
        """Read bytes into `buffer`; returns the number of bytes."""
        start = self.tell()
        n = super().readinto(buffer)
        for offset, patch in self._patches.items():
            low, high = max(offset, start), min(offset + len(patch), start + n)
            if low < high:
                buffer[low - start : high - start] = patch[low - offset : high - offset]
        return n
