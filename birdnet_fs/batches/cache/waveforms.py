"""Waveforms of clips from a cache folder, equal to decoded ones to the last bit.

A clip is found by the content of its file (hashes.py), its start and end, the sample rate and what decodes it
(versions.py). Its row of the ledger is stored with it, also that of a clip that cannot be read. Samples are stored as
int16 where that is exact, which is so for 16-bit PCM at the model's rate, else as float32.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from birdnet_fs import schema
from birdnet_fs.batches.cache.folder import CacheFolder, Jobs, Made, Stored, open_cache
from birdnet_fs.batches.cache.hashes import State, content_hashes, file_state
from birdnet_fs.batches.cache.versions import decoding_version
from birdnet_fs.data.ledger import STATUSES, LedgerRow
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import MEMORY_BYTES, ReadClip, Waveforms, read_clip

_FULL_SCALE = np.float32(2**15)
_FIRST = 4096  # samples of which most files that are not 16-bit PCM are recognized


class CachedWaveforms(Waveforms):
    """`Waveforms` whose clips are read from a cache folder; those that are not in it are decoded and stored there.

    Args:
        clips: Clips to read.
        sample_rate_hz: Rate of the waveforms.
        cache: The folder. What it has no room for is decoded, as `Waveforms` does.
        memory_bytes: Memory for waveforms that are not in the folder. Default: 4 GB.

    Attributes:
        cache: The folder.
        keys: Keys of the stored waveforms, one for each clip of `clips`; "" = the file could not be read for a hash.
    """

    def __init__(
        self, clips: Sequence[Clip], sample_rate_hz: int, cache: CacheFolder, *, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        self.cache = cache
        cache.create()
        contents = content_hashes((os.fspath(clip.path) for clip in clips), cache.path)
        asked = [
            _key(clip, sample_rate_hz, *contents[path]) if (path := os.fspath(clip.path)) in contents else ""
            for clip in clips
        ]
        by_key = dict(zip(asked, clips, strict=True))
        by_key.pop("", None)
        kind = f"waveforms-{sample_rate_hz}"
        found = cache.find(kind, by_key)
        jobs: Jobs = {
            key: _job(clip, sample_rate_hz, contents[os.fspath(clip.path)][1])
            for key, clip in by_key.items()
            if key not in found
        }
        if jobs:
            found |= cache.add(kind, jobs, "decoding clips for the cache")
        self._asked = [(key, found.get(key)) for key in asked]
        self._kept: list[tuple[str, Stored | None]] = []
        super().__init__(clips, sample_rate_hz, memory_bytes=memory_bytes)
        self.keys = tuple(key for key, _ in self._kept)

    def _first_read(self, index: int, clip: Clip) -> tuple[ReadClip, int]:
        key, stored = self._asked[index]
        found = None if stored is None else _as_read(clip, stored)
        if found is None:
            stored, found = None, super()._first_read(index, clip)
        if found[1]:
            self._kept.append((key, stored))
        return found

    def __getitem__(self, index: int) -> np.ndarray:
        """The waveform of one clip, float32 [n_samples] in +-1; not to be written to."""
        key, stored = self._kept[index]
        if stored is not None:
            samples = stored.load()
            if samples is not None:
                return samples if samples.dtype == np.float32 else as_float(samples)
            self._kept[index] = key, None
        return super().__getitem__(index)


def waveform_reader(data: schema.Data) -> Callable[[Sequence[Clip], int], Waveforms]:
    """Choose how clips are read.

    Args:
        data: Settings; `cache` and `cache_gb` are used.

    Returns:
        A function (clips, sample_rate_hz) -> their waveforms.
    """
    cache = open_cache(data.cache, data.cache_gb)
    if cache is None:
        return Waveforms
    return lambda clips, sample_rate_hz: CachedWaveforms(clips, sample_rate_hz, cache)


def exact_int16(waveform: np.ndarray) -> np.ndarray | None:
    """A waveform as 16-bit samples, where no bit is lost.

    Args:
        waveform: float32 [n].

    Returns:
        int16 [n], of which `as_float` makes the same bits; None where it cannot.

    >>> exact_int16(np.array([0.0, -1.0, 0.5], np.float32)).tolist()
    [0, -32768, 16384]
    >>> exact_int16(np.array([1.0], np.float32)), exact_int16(np.array([-0.0], np.float32))
    (None, None)
    """
    for part in (waveform[:_FIRST], waveform):
        scaled = part * _FULL_SCALE
        if len(part) and not (scaled.min() >= -(2**15) and scaled.max() < 2**15):
            return None
        samples = scaled.astype(np.int16)
        if not np.array_equal(as_float(samples).view(np.int32), np.ascontiguousarray(part).view(np.int32)):
            return None
    return samples


def as_float(samples: np.ndarray) -> np.ndarray:
    """16-bit samples int16 [n] as float32 [n] in +-1."""
    return np.multiply(samples, 1 / _FULL_SCALE, dtype=np.float32)


def _key(clip: Clip, sample_rate_hz: int, content: str, state: State) -> str:
    # the suffix decides about the flag wrong_extension
    suffix = Path(clip.path).suffix.lower()
    parts = [content, suffix, clip.onset_s, clip.offset_s, sample_rate_hz, decoding_version()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _job(clip: Clip, sample_rate_hz: int, state: State) -> Callable[[], Made | None]:
    return lambda: _made(clip, sample_rate_hz, state)


def _made(clip: Clip, sample_rate_hz: int, state: State) -> Made | None:
    found = read_clip(clip, sample_rate_hz)
    if file_state(os.fspath(clip.path)) != state:
        return None  # it has changed since its content was hashed
    row, waveform = found.row, found.waveform
    about = (found.clip.offset_s, row.status, row.reason, row.flags, row.duration_s, found.past_end)
    if waveform is None:
        return Made(np.empty(0, np.float32), about)
    exact = exact_int16(waveform)
    return Made(waveform if exact is None else exact, about)


def _as_read(clip: Clip, stored: Stored) -> tuple[ReadClip, int] | None:
    """Result of `read_clip` when the clip was stored, and its number of samples; None for values of another kind."""
    try:
        offset_s, status, reason, flags, duration_s, past_end = stored.entry.about
        row = LedgerRow(os.fspath(clip.path), status, reason, tuple(flags), float(duration_s), clip.source)
        [n_samples] = stored.entry.shape
    except (ValueError, TypeError):
        return None
    if status not in STATUSES or (status == "quarantined") != (n_samples == 0):
        return None
    return ReadClip(replace(clip, offset_s=offset_s), row, None, past_end), n_samples
