"""Fingerprints of recordings: whether two files hold the same recording, whatever their names are.

The fingerprint of a lossless file (WAV, FLAC, AIFF, ...) is a BLAKE2b hash of its decoded samples at the native sample
rate, one hash per channel over float32, which holds 8, 16 and 24-bit samples exactly. A byte copy, a link, a WAV
converted from a FLAC, and a mono file made of two equal channels therefore have the same fingerprint. A copy with
another gain, another sample rate or lossy compression, or an excerpt saved as a file, has another one.

- Only the first N_FRAMES frames that differ from the frame before them are hashed (22 s at 48 kHz), so that a
  fingerprint takes tens of milliseconds for a recording of any length. Frames that repeat are hashed but not counted:
  two recordings that both start with digital silence do not become equal. The length is not hashed, so that a
  truncated copy, or one with a wrong length in its header, is recognized as long as it has N_FRAMES frames.
- MP3, Vorbis and Opus decoders round differently on different processors. For such files the first N_BYTES encoded
  bytes and the number of all bytes are hashed, without ID3 tags.
- A file that cannot be read, or whose samples never change, has no fingerprint ("", unknown).
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from birdnet_fs.audio.decode import channel_blocks
from birdnet_fs.audio.source import OpenSource, open_source
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.installation.resources import n_cpus
from birdnet_fs.core.progress import track
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip

N_FRAMES = 1 << 20  # hashed frames (one sample of every channel) that differ from the frame before them
N_BYTES = 1 << 20  # hashed bytes of a lossy file
LOSSY = ("VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III")  # subtypes as libsndfile names them
_DIGEST_BYTES = 16
_known: dict[tuple[str, int, int, int], str] = {}


def fingerprint(path: Path | str) -> str:
    """Compute the fingerprint of a recording, once per process until its size or modification time changes.

    Args:
        path: Audio file with any name and extension.

    Returns:
        32 hexadecimal digits, the same on every machine; "" for a file that is missing, broken or constant.
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
    """Compute the fingerprint of each path in several threads, with a progress bar."""
    wanted = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(min(4, n_cpus())) as pool:
        found = track(pool.map(fingerprint, wanted), "comparing recordings", total=len(wanted), unit="recording")
        return dict(zip(wanted, found, strict=True))


def with_fingerprints(clips: Iterable[Clip]) -> tuple[Clip, ...]:
    """Add the fingerprint of its recording to every clip that has none; the files of the others are not read."""
    clips = tuple(clips)
    read = fingerprints(clip.path for clip in clips if not clip.fingerprint)
    return tuple(
        clip if clip.fingerprint or not read[clip.path] else replace(clip, fingerprint=read[clip.path])
        for clip in clips
    )


def recording_key(clip: Clip) -> str:
    """Key that all clips of a recording share: its fingerprint, or its real path when that is unknown."""
    return clip.fingerprint or os.path.realpath(clip.path)


def match_recordings(clips: Sequence[Clip], known: Iterable[Clip]) -> list[bool]:
    """Whether each clip belongs to the same recording as one of the known clips, at any position in it.

    Fingerprints are compared where both are known (a replaced file is another recording), else real paths. The
    fingerprint of a clip without one is computed from the file at its path, if it exists.

    Args:
        clips: Clips to look up.
        known: Clips of the recordings to compare with.

    Returns:
        One bool per clip, in the order of `clips`.
    """
    looked_up, known = with_fingerprints(clips), with_fingerprints(known)
    known_fingerprints = {clip.fingerprint for clip in known} - {""}
    without_fingerprint = {os.path.realpath(path) for path in {clip.path for clip in known if not clip.fingerprint}}
    known_paths = set(without_fingerprint)
    if not all(clip.fingerprint for clip in looked_up):
        known_paths |= {os.path.realpath(path) for path in {clip.path for clip in known}}

    def same(clip: Clip) -> bool:
        if clip.fingerprint in known_fingerprints:
            return True
        candidates = without_fingerprint if clip.fingerprint else known_paths
        return bool(candidates) and os.path.realpath(clip.path) in candidates

    return [same(clip) for clip in looked_up]


@dataclass(frozen=True)
class SameSound:
    """Recordings under several names that are the same sound.

    Attributes:
        paths: The files, two or more, in the order of the clips.
        labels: Labels of the clips of each file, in the order of `paths`, for an excerpt that several files have and
            that has other labels in one of them; empty where the labels agree.
    """

    paths: tuple[Path, ...]
    labels: tuple[tuple[str, ...], ...] = ()

    def __str__(self) -> str:
        shown = [escaped(path) for path in self.paths]
        if self.labels:
            named = (", ".join(map(escaped, names)) or "no label" for names in self.labels)
            shown = [f"{path} ({names})" for path, names in zip(shown, named, strict=True)]
        return " = ".join(shown)


def same_sounds(clips: Iterable[Clip]) -> tuple[SameSound, ...]:
    """Find recordings that are the same sound under several names, by their fingerprints.

    Args:
        clips: Clips with fingerprints (`with_fingerprints`); those without are not compared.

    Returns:
        One entry per sound, those with different labels first.
    """
    by_sound: dict[str, dict[Path, dict[tuple[float, float | None], set[str]]]] = {}
    for clip in clips:
        if clip.fingerprint:
            excerpts = by_sound.setdefault(clip.fingerprint, {}).setdefault(clip.path, {})
            excerpts.setdefault((clip.onset_s, clip.offset_s), set()).update(clip.labels)
    found = []
    for files in by_sound.values():
        if len(files) > 1:
            found.append(SameSound(tuple(files), _different_labels(list(files.values()))))
    return tuple(sorted(found, key=lambda same: not same.labels))


def _different_labels(files: list[dict[tuple[float, float | None], set[str]]]) -> tuple[tuple[str, ...], ...]:
    """Labels of the first excerpt that two files have with other labels, for each file; () where there is none."""
    for place in dict.fromkeys(place for excerpts in files for place in excerpts):
        labels = [tuple(sorted(excerpts[place])) for excerpts in files if place in excerpts]
        if len(set(labels)) > 1:
            return tuple(tuple(sorted(excerpts.get(place, ()))) for excerpts in files)
    return ()


def _fingerprint(path: Path | str) -> str:
    with open_source(path) as source:
        if source.sound.subtype not in LOSSY:
            return _of_samples(source)
    return _of_bytes(path)


def _of_samples(source: OpenSource) -> str:
    digests = [hashlib.blake2b(digest_size=_DIGEST_BYTES) for _ in range(source.n_channels)]
    left, last = N_FRAMES, None
    for block in channel_blocks(source):
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
