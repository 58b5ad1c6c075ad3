"""Inspection of audio files before decoding: what a header states is compared with what the file holds.

libsndfile opens truncated, joined and damaged files without an error and returns a short array. Wrong sizes are
repaired, tags and damaged bytes left out, in a view of the file (file_view.py); the file itself is never modified. FLAC
is RFC 9639; containers.py, ogg.py and mpeg.py name the sources of the other formats.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from birdnet_fs.audio.containers import chunks_follow, find_samples, next_container
from birdnet_fs.audio.file_view import Piece, patched
from birdnet_fs.audio.files import EXTENSIONS, refuse_other_formats
from birdnet_fs.audio.mpeg import Stream, scan
from birdnet_fs.audio.ogg import Chain, scan_pages
from birdnet_fs.audio.samples import Samples

HEAD = 1 << 16  # bytes inspected at the start of a file
MAX_JOINED = 10_000  # recordings in one file
NOT_STATED = "length_not_stated"


@dataclass(frozen=True)
class Header:
    """Result of the inspection of one recording in a file; there are several in a file that was joined from others."""

    kind: str  # a key of containers.KINDS, "flac", "ogg", "mp3", or "" (detected by libsndfile)
    pieces: tuple[Piece, ...] = ()  # the view that libsndfile decodes; () = the file as it is
    fallback: tuple[Piece, ...] = ()  # the view for MP3 of which libsndfile underestimates the length
    n_samples: int | None = None  # per channel, in FLAC (0 = not stated) and MP3 (at most); None = from libsndfile
    n_lost: int = 0  # samples at the end that an Ogg page states, but that are damaged
    flags: tuple[str, ...] = ()  # "header_repaired", "length_not_stated", "time_axis_unreliable"
    damage: str = ""  # why the recording is known to be incomplete; "" = complete as far as known
    codec: str = ""  # of an Ogg file: a value of ogg.CODECS
    joined: tuple["Header", ...] = ()  # the recordings behind this one in the same file


def inspect_header(file: BinaryIO, size: int, path: Path | str) -> Header:
    """Inspect an open file, and compare what its header states with what it holds.

    Args:
        file: File opened for reading, at its start.
        size: Size of the file, bytes.
        path: Used in messages, and to detect the format.

    Returns:
        The format, views that repair it, and signs of damage.

    Raises:
        AudioError: The file is empty, has a format that cannot be decoded, or is not audio.
    """
    head = file.read(HEAD)
    refuse_other_formats(head, path)
    if head[:4] == b"OggS":
        found = [_ogg(chain) for chain in scan_pages(file, 0, size)]
        return _joined(found) if found else Header("ogg", damage="its first page is damaged.")
    start = _id3_bytes(file, head)
    if start:
        file.seek(start)
        head = file.read(HEAD)
    if head[:4] == b"fLaC" and len(head) >= 42:
        return _flac(head, start, size)
    if found := _containers(file, size):
        return _joined(found)
    if start or (len(head) > 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0) or _is_mpeg_name(path):
        found = [_mpeg(stream) for stream in scan(file, 0, size)]
        if found:
            return _joined(found)
        if start or not _is_mpeg_name(path):
            return Header("mp3", flags=(NOT_STATED,))
    return Header("", flags=(NOT_STATED,))


def _joined(found: list[Header]) -> Header:
    """The first of several recordings, which holds the others."""
    if len(found) == 1:
        return replace(found[0], pieces=()) if found[0].kind == "ogg" else found[0]  # sought in the file itself
    first, *others = [replace(each, pieces=each.fallback or each.pieces) for each in found[:MAX_JOINED]]
    return replace(first, joined=tuple(others))


def _is_mpeg_name(path: Path | str) -> bool:
    return os.path.splitext(os.fspath(path))[1].lower() in EXTENSIONS["MP3"]


def _id3_bytes(file: BinaryIO, head: bytes) -> int:
    """Length of the ID3 tags at the start of a file."""
    start = 0
    while head[:3] == b"ID3" and len(head) > 10:
        start += 10 + sum(b << s for b, s in zip(head[6:10], (21, 14, 7, 0), strict=True)) + (head[5] >> 4 & 1) * 10
        file.seek(start)
        head = file.read(16)
    return start


def _containers(file: BinaryIO, size: int) -> list[Header]:
    """The recordings of a file of WAV, AIFF or another container that states the size of its samples; [] = none."""
    found: list[Header] = []
    begin: int | None = 0
    while begin is not None and len(found) < MAX_JOINED:
        kind, samples = find_samples(file, begin, size)
        if not kind:
            return found
        if samples is None or samples.n_bytes is None:
            pieces: tuple[Piece, ...] = ((begin, size),) if begin else ()
            if samples is not None and kind == "caf":  # libsndfile refuses an unknown length
                pieces = patched(begin, size, {samples.size_at: samples.size_field(size - samples.begin)})
            return [*found, Header(kind, pieces, flags=(NOT_STATED,))]
        following = next_container(file, kind, samples, size)
        found.append(_sized(file, kind, begin, samples, size, following))
        begin = following
    return found


def _sized(file: BinaryIO, kind: str, begin: int, samples: Samples, size: int, following: int | None) -> Header:
    """Compare the stated size of the samples with the file: the container begins at byte `begin`."""
    n_bytes, left = samples.n_bytes or 0, size - samples.begin
    end = samples.begin + n_bytes
    if following is not None:
        return Header(kind, ((begin, end if samples.reads_on else following),))
    if n_bytes > left:
        damage = f"the header states {n_bytes} bytes of samples, the file holds {left}."
        patches = {samples.size_at: samples.size_field(left)} if kind == "caf" else {}
        return Header(kind, patched(begin, size, patches) if patches or begin else (), damage=damage)
    if left - n_bytes >= samples.align and not chunks_follow(file, samples, end, size):
        damage = f"the header states {n_bytes} bytes of samples, the file holds {left}"
        if not samples.size_at and not samples.reads_on:
            return Header(kind, ((begin, size),) if begin else (), damage=damage + "; the stated ones were read.")
        whole = left - left % samples.align
        pieces = () if samples.reads_on else patched(begin, size, {samples.size_at: samples.size_field(whole)})
        return Header(kind, pieces, flags=("header_repaired",), damage=damage + "; all were read.")
    if begin or (samples.reads_on and end < size):
        return Header(kind, ((begin, end if samples.reads_on else size),))
    return Header(kind)


def _flac(head: bytes, start: int, size: int) -> Header:
    """Inspect FLAC: the view has the length 0, unknown, in STREAMINFO (36 bits), to decode up to the true end."""
    value = int.from_bytes(head[18:26], "big")
    mended = (value >> 36 << 36).to_bytes(8, "big")
    stated = value & (1 << 36) - 1
    return Header(
        "flac", patched(0, size, {start + 18: mended}), n_samples=stated, flags=() if stated else (NOT_STATED,)
    )


def _ogg(chain: Chain) -> Header:
    """Inspect the pages of an Ogg stream: damaged ones shorten it, and its granule position states its true end."""
    damage, flags = list[str](), tuple[str, ...]()
    if chain.n_damaged:
        pages = "1 page is" if chain.n_damaged == 1 else f"{chain.n_damaged} pages are"
        damage.append(f"{pages} damaged or missing inside the file; the audio after the gap is shifted.")
        flags = ("time_axis_unreliable",)
    if chain.damaged_end:
        damage.append("the last page is damaged or incomplete.")
    elif not chain.ended:
        damage.append("the file ends before the end-of-stream mark.")
    return Header(
        "ogg",
        ((chain.begin, chain.end),),
        n_lost=max(0, chain.stated - chain.last),
        flags=flags,
        damage=" ".join(damage),
        codec=chain.codec,
    )


def _mpeg(stream: Stream) -> Header:
    """Inspect an MPEG stream: its frames are its length, and a Xing or VBRI header states how many there should be."""
    damage, flags = list[str](), tuple[str, ...]()
    missing = (stream.stated or 0) - stream.n_frames
    seconds = stream.first.n_samples / stream.first.rate_hz
    complete = stream.stated is not None and missing <= 1  # some programs count the frame of the header
    if missing > 1:
        damage.append(
            f"the header states {stream.stated} frames, the file holds {stream.n_frames}: "
            f"{missing * seconds:.3f} s are missing."
        )
    elif stream.cut and not complete:
        damage.append("the last frame is incomplete: the file was cut.")
    lost = [gap for gap in stream.gaps if not complete]
    if lost:
        n_bytes, at = sum(gap[1] for gap in lost), lost[0][0] * seconds
        damage.append(f"{n_bytes} bytes after {at:.3f} s are not MPEG audio; the audio after the gap is shifted.")
        flags = ("time_axis_unreliable",)
    if stream.stated is None:
        flags = (*flags, NOT_STATED)
    view = stream.pieces()
    plain = not stream.gaps and missing >= -1
    return Header("mp3", () if plain else view, view, n_samples=stream.n_samples, flags=flags, damage=" ".join(damage))
