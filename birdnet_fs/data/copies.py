"""Whether two files hold the same recording, by a fingerprint of their sound and not by their names.

The fingerprint of a lossless file (WAV, FLAC, AIFF, ...) is a BLAKE2b hash of its decoded samples at the file's own
rate, each channel as float32, in which 8, 16 and 24-bit samples are exact whatever holds them. A byte copy, a link, a
WAV made of a FLAC and a mono file made of two equal channels therefore share it. Two recordings that merely sound
alike do not: another gain, another rate, a lossy copy or a part cut out into a file of its own is another recording.

- Only the first N_FRAMES frames that differ from the frame before them are hashed (22 s at 48 kHz), so that a
  fingerprint costs tens of milliseconds however long the recording is. Frames that repeat are hashed and not counted:
  a digitally silent start does not make recordings equal. The length is left out, so that a copy that lost its end,
  or whose header lies, is recognized as long as N_FRAMES are left.
- MP3, Vorbis and Opus decoders round differently from processor to processor. Of such files the encoded bytes are
  hashed, N_BYTES of them and their number, without ID3 tags: the same bytes decode to the same sound.
- A file that cannot be read, or in which nothing ever changes, has no fingerprint ("", unknown).
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from birdnet_fs.audio.decode import OpenSource, frames, open_source
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import track
from birdnet_fs.data.manifest import Clip

N_FRAMES = 1 << 20  # frames (one sample of every channel) that differ from the one before
N_BYTES = 1 << 20  # of the encoded stream of a lossy file
LOSSY = ("VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III")  # subtypes as libsndfile names them
_DIGEST_BYTES = 16
_known: dict[tuple[str, int, int, int], str] = {}


def fingerprint(path: Path | str) -> str:
    """Return the fingerprint of a recording; computed once per process while size and time of change stay.

    Args:
        path: An audio file of any name and extension.

    Returns:
        32 hexadecimal digits, the same on every machine; "" for a file that is missing, broken or all of one value.
    """
    try:
        about = os.stat(path)
        key = (os.path.abspath(path), about.st_ino, about.st_size, about.st_mtime_ns)
        if key not in _known:
            _known[key] = _fingerprint(path)
        return _known[key]
    except (UserError, OSError, ValueError):
        return ""


def fingerprints(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the fingerprint of each path, computed by several threads with a progress bar."""
    wanted = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        found = track(pool.map(fingerprint, wanted), "comparing recordings", total=len(wanted), unit="recording")
        return dict(zip(wanted, found, strict=True))


def with_fingerprints(clips: Iterable[Clip]) -> tuple[Clip, ...]:
    """Return clips with the fingerprint of their recording; those that have one keep it, unread."""
    clips = tuple(clips)
    read = fingerprints(clip.path for clip in clips if not clip.fingerprint)
    return tuple(
        clip if clip.fingerprint or not read[clip.path] else replace(clip, fingerprint=read[clip.path])
        for clip in clips
    )


def recording_of(clip: Clip) -> str:
    """Return what clips of one recording share: its fingerprint, or its real path when that is unknown."""
    return clip.fingerprint or os.path.realpath(clip.path)


def match_recordings(clips: Sequence[Clip], known: Iterable[Clip]) -> list[bool]:
    """Whether each clip is of the same recording as one of `known`, wherever in it.

    Fingerprints decide where both are known (a file that was replaced is another recording), and real paths where one
    is not. A clip without a fingerprint gets that of the file at its path, if it is still there.

    Args:
        clips: What is asked about.
        known: What it is compared with.

    Returns:
        One bool for each of `clips`.
    """
    asked, known = with_fingerprints(clips), with_fingerprints(known)
    marks = {clip.fingerprint for clip in known} - {""}
    unmarked = {os.path.realpath(path) for path in {clip.path for clip in known if not clip.fingerprint}}
    places = set(unmarked)
    if not all(clip.fingerprint for clip in asked):
        places |= {os.path.realpath(path) for path in {clip.path for clip in known}}

    def same(clip: Clip) -> bool:
        if clip.fingerprint in marks:
            return True
        return bool(places) and os.path.realpath(clip.path) in (unmarked if clip.fingerprint else places)

    return [same(clip) for clip in asked]


def _fingerprint(path: Path | str) -> str:
    with open_source(path) as source:
        if source.sound.subtype not in LOSSY:
            return _of_samples(source)
    return _of_bytes(path)


def _of_samples(source: OpenSource) -> str:
    digests = [hashlib.blake2b(digest_size=_DIGEST_BYTES) for _ in range(source.n_channels)]
    left, last = N_FRAMES, None
    for block in frames(source):
        changed = np.empty(len(block), bool)
        changed[0] = last is not None and bool((block[0] != last).any())
        changed[1:] = (block[1:] != block[:-1]).any(axis=1)
        n_changed = int(np.count_nonzero(changed))
        end = len(block) if n_changed < left else int(np.flatnonzero(changed)[left - 1]) + 1
        for digest, channel in zip(digests, block[:end].T, strict=True):
            digest.update((channel + np.float32(0)).astype("<f4", copy=False))  # -0.0 and 0.0 are the same sample
        last = block[-1].copy()
        left -= min(n_changed, left)
        if not left:
            break
    if left == N_FRAMES:
        return ""
    channels = [digest.hexdigest() for digest in digests]
    if len(set(channels)) == 1:
        return channels[0]
    return hashlib.blake2b("".join(channels).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _of_bytes(path: Path | str) -> str:
    with open(path, "rb") as file:
        head = file.read(10)
        start = 0
        if head[:3] == b"ID3" and len(head) == 10:
            start = 10 + sum(b << s for b, s in zip(head[6:10], (21, 14, 7, 0), strict=True))
        end = os.fstat(file.fileno()).st_size
        file.seek(max(0, end - 128))
        if file.read(3) == b"TAG":
            end -= 128
        file.seek(start)
        digest = hashlib.blake2b(file.read(max(0, min(N_BYTES, end - start))), digest_size=_DIGEST_BYTES)
    digest.update(str(end - start).encode())
    return digest.hexdigest()
