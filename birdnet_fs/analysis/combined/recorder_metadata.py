"""Metadata of recorders in WAV files beside the samples: GUANO and the comment of AudioMoth.

GUANO: https://guano-md.org (specification 1.0): a chunk `guan` of UTF-8 lines `Key: value`. AudioMoth writes the chunk
ICMT of a LIST of INFO: "Recorded at 05:30:00 01/05/2024 (UTC+2) by AudioMoth ...", day before month.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_MAX_CHUNK = 65_536  # bytes of metadata that are read; GUANO of a few lines is below 2,000


class RecorderMetadata(NamedTuple):
    """Metadata of a recorder.

    Attributes:
        guano: Values by key of the GUANO chunk; empty where there is none.
        comment: Comment of the INFO list; "" where there is none.
    """

    guano: dict[str, str]
    comment: str


def recorder_metadata(path: Path) -> RecorderMetadata:
    """Read the metadata of a recording.

    Args:
        path: The recording, of any format, present or not.

    Returns:
        What its RIFF chunks hold; nothing for other formats, and for files that cannot be read.
    """
    found = RecorderMetadata({}, "")
    try:
        with open(path, "rb") as file:
            for name, size in _chunks(file):
                if name == b"guan":
                    found = found._replace(guano=_guano(file.read(min(size, _MAX_CHUNK))))
                elif name == b"LIST" and not found.comment:
                    found = found._replace(comment=_comment(file.read(min(size, _MAX_CHUNK))))
    except OSError:
        return RecorderMetadata({}, "")
    return found


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Names and sizes of the chunks, the file being at their content; ends where a size leads beyond the file."""
    head = file.read(12)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return
    end, wide = os.fstat(file.fileno()).st_size, 0
    at = 12
    while at + 8 <= end:
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8))
        if name == b"ds64" and size >= 16:
            _, wide = struct.unpack("<QQ", file.read(16))
            file.seek(at + 8)
        elif name == b"data" and size == 0xFFFFFFFF and wide:
            size = wide
        yield name, size
        at += 8 + size + size % 2


def _guano(content: bytes) -> dict[str, str]:
    """Values by key; lines without a colon are ignored."""
    lines = content.decode("utf-8", "replace").strip("\0\r\n ").splitlines()
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _comment(content: bytes) -> str:
    """The chunk ICMT of a list of INFO."""
    if content[:4] != b"INFO":
        return ""
    at = 4
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        if name == b"ICMT":
            return content[at + 8 : at + 8 + size].split(b"\0")[0].decode("utf-8", "replace").strip()
        at += 8 + size + size % 2
    return ""
