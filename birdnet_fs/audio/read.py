"""Recordings as waveforms: mono float32 in +-1 at the wanted rate, with a verdict on the file.

Reading: libsndfile in blocks (decode.py), mean over channels, soxr HQ. A verdict is "ok" or "partial" (the
front is there, the reason says what is not), with flags; what cannot be used at all raises one `AudioError`.
Damage inside plain PCM samples cannot be detected, and a truncated MP3 without a Xing/Info header neither.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from birdnet_fs.audio.decode import OpenSource, assess, blocks, open_source
from birdnet_fs.audio.headers import EXTENSIONS, UNREADABLE, AudioError

__all__ = ["Audio", "AudioCheck", "AudioError", "AudioStream", "check_audio", "duration_s", "find_audio", "read_audio"]
__all__ += ["stream_audio"]

READABLE = tuple(sorted({ext for extensions in EXTENSIONS.values() for ext in extensions}))
ROOM = 1 << 24  # samples that a header is believed without having decoded them
MAX_SAMPLES = 1 << 29  # one read_audio gives at most this many (2 GiB, 4.6 h at 32 kHz)
FILTER_MARGIN = 1024  # samples of the lower rate decoded around a part for the resampling filter


@dataclass(frozen=True)
class Audio:
    """A waveform and the verdict on the file it came from."""

    waveform: np.ndarray  # float32 [n_samples], mono, nominally in +-1
    sample_rate_hz: int
    duration_s: float  # of the waveform
    status: str  # "ok" or "partial"
    flags: tuple[str, ...]
    reason: str  # "" when ok


def read_audio(
    path: Path | str, *, sample_rate_hz: int, onset_s: float = 0.0, duration_s: float | None = None
) -> Audio:
    """Read a recording, or a part of it, as mono at the wanted rate.

    Args:
        path: wav, flac, ogg (Vorbis, Opus), mp3, aiff, w64, rf64, caf or au; any name and extension.
        sample_rate_hz: Rate of the waveform; soxr HQ is used when the file has another.
        onset_s: First second wanted, rounded to a sample of the wanted rate.
        duration_s: Seconds wanted, None = to the end. Less comes back where the recording ends earlier (flag
            "short"), and the verdict is then about the part. A part equals the same slice of the whole to
            within the rounding of the resampler (tests/tolerances.py, PART_OF_WHOLE), but a part of a damaged Ogg
            Vorbis file stands at its true time, where the whole is shifted behind the damage.

    Flags: wrong_extension, header_repaired, length_unknown, wrong_header_length, time_axis_unreliable,
    bad_samples=N (set to zero), silent, antiphase (the louder channel was used), beyond_full_scale, short.

    Raises:
        AudioError: Missing, not audio, implausible, without samples, mostly NaN, too long for one array, or
            `onset_s` lies behind the end.
        ValueError: `onset_s` or `duration_s` is negative.
    """
    if not (onset_s >= 0 and (duration_s is None or duration_s >= 0)):
        raise ValueError(f"onset_s and duration_s must be 0 or more. Received: {onset_s!r}, {duration_s!r}")
    first = round(onset_s * sample_rate_hz)
    wanted = None if duration_s is None else round(duration_s * sample_rate_hz)
    part = first > 0 or wanted is not None
    with open_source(path, seeking=first > 0) as source:
        waveform = _read(source, sample_rate_hz, first, wanted)
        seek_failed = first > 0 and source.header.kind == "flac" and (wanted is None or len(waveform) < wanted)
    if seek_failed:  # a FLAC header that lies about its length also misleads seeking
        with open_source(path) as source:
            waveform = _read(source, sample_rate_hz, first, wanted)
    if source.tally.antiphase:
        loudest = source.tally.louder
        with open_source(path, seeking=first > 0 and not seek_failed) as source:
            source.tally.channel = loudest
            waveform = _read(source, sample_rate_hz, first, wanted)
    if first > 0 and not len(waveform):
        raise AudioError(f"nothing is left at {onset_s:g} s; the recording ends earlier.", path)
    status, flags, reason = assess(source, whole=not part)
    if not len(waveform):
        raise AudioError(f"{source.tally.n_samples} samples are too few to resample.", path)
    if wanted is not None and len(waveform) < wanted:
        flags += ("short",)
    seconds = len(waveform) / sample_rate_hz if part else source.tally.n_samples / source.sample_rate_hz
    return Audio(waveform, sample_rate_hz, seconds, status, flags, reason)


def _read(source: OpenSource, rate: int, first: int, wanted: int | None) -> np.ndarray:
    """Samples [first, first + wanted) at `rate`."""
    native = source.sample_rate_hz
    start, count, drop = first, wanted, 0
    if native != rate:
        step = native // math.gcd(native, rate)  # input samples after which the two grids meet again
        margin = math.ceil(FILTER_MARGIN * max(1, native / rate))
        start = max(0, first * native // rate - margin) // step * step
        drop = first - start * rate // native
        count = None if wanted is None else math.ceil((first + wanted) * native / rate) + margin - start
    expected = (source.declared or 0) - start if count is None else count
    waveform, total = np.empty(max(0, min(expected * rate // native + FILTER_MARGIN, ROOM)), np.float32), 0
    for block in resampled(blocks(source, start, count), native, rate):
        if total + len(block) > MAX_SAMPLES:
            hours = MAX_SAMPLES / rate / 3600
            raise AudioError(f"longer than {hours:.1f} h; read parts of it or use stream_audio.", source.path)
        if total + len(block) > len(waveform):
            waveform.resize(2 * (total + len(block)), refcheck=False)
        waveform[total : total + len(block)] = block
        total += len(block)
    waveform.resize(total, refcheck=False)
    return waveform[drop : None if wanted is None else drop + wanted]


def resampled(chunks: Iterator[np.ndarray], native: int, rate: int) -> Iterator[np.ndarray]:
    """float32 blocks at `rate` from blocks at `native`, through one soxr HQ stream; copy what you keep."""
    if native == rate:
        yield from chunks
        return
    stream = soxr.ResampleStream(native, rate, 1, dtype="float32", quality="HQ")
    for chunk in chunks:
        yield stream.resample_chunk(chunk)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


class AudioStream:
    """Blocks of one recording in constant memory; the verdict is final once they have run out.

    `status`, `flags`, `reason` and `duration_s` hold what is known so far. Channels that cancel each other are
    noticed block by block: from then on the louder one is used.
    """

    def __init__(self, path: Path | str, sample_rate_hz: int, block_s: float) -> None:
        self.path, self.sample_rate_hz, self.block_s = path, sample_rate_hz, block_s
        self.status, self.reason, self.duration_s = "ok", "", 0.0
        self.flags: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[np.ndarray]:
        size = max(1, round(self.block_s * self.sample_rate_hz))
        with open_source(self.path) as source:
            held: list[np.ndarray] = []
            n_held = 0
            for piece in resampled(_in_phase(source), source.sample_rate_hz, self.sample_rate_hz):
                held.append(piece.copy())
                n_held += len(piece)
                if n_held >= size:
                    joined = np.concatenate(held)
                    whole = n_held // size * size
                    for at in range(0, whole, size):
                        yield joined[at : at + size]
                    held, n_held = [joined[whole:].copy()], n_held - whole
                self.duration_s = source.tally.n_samples / source.sample_rate_hz
            if n_held:
                yield np.concatenate(held)
            self.status, self.flags, self.reason = assess(source, whole=True)


def _in_phase(source: OpenSource) -> Iterator[np.ndarray]:
    for block in blocks(source):
        yield block
        if source.tally.channel is None and source.tally.antiphase:
            source.tally.channel = source.tally.louder


def stream_audio(path: Path | str, *, sample_rate_hz: int, block_s: float = 30.0) -> AudioStream:
    """A recording of any length as float32 blocks [round(block_s * sample_rate_hz)] (the last one shorter).

    Raises:
        AudioError: While iterating, as `read_audio`; the blocks before it are good.
    """
    return AudioStream(path, sample_rate_hz, block_s)


@dataclass(frozen=True)
class AudioCheck:
    """What one full decoding says of a file."""

    duration_s: float  # decoded, not promised
    sample_rate_hz: int
    n_channels: int
    status: str
    flags: tuple[str, ...]
    reason: str


def check_audio(path: Path | str) -> AudioCheck:
    """Decode a whole file at its own rate, in constant memory, for its verdict and true length.

    Raises:
        AudioError: As `read_audio`.
    """
    with open_source(path) as source:
        for _ in blocks(source):
            pass  # what counts is kept in source.tally
        status, flags, reason = assess(source, whole=True)
        seconds = source.tally.n_samples / source.sample_rate_hz
        return AudioCheck(seconds, source.sample_rate_hz, source.n_channels, status, flags, reason)


def duration_s(path: Path | str) -> float:
    """Length of a recording in seconds, without decoding where that can be verified.

    WAV, AIFF and Ogg lengths come from the mended header and the size of the file. A FLAC header is believed when
    its last sample decodes and the file ends there; MP3 and everything doubtful is decoded.

    Raises:
        AudioError: As `read_audio`.
    """
    with open_source(path, seeking=True) as source:
        header, n = source.header, source.sound.frames
        sure = header.kind in ("wav", "aiff") or (header.kind == "ogg" and not header.truncated)
        if header.kind == "flac" and 0 < n < 1 << 36:
            there = sum(len(block) for block in blocks(source, n - 1))
            sure = there == 1 and not source.tally.error and source.file.tell() == source.size
        if sure and n > 0:
            return n / source.sample_rate_hz
    return check_audio(path).duration_s


def find_audio(folder: Path | str) -> list[Path]:
    """Every file below `folder` whose extension names audio, readable or not, sorted, at any depth.

    Hidden files and folders are left out; links to folders are not followed.

    Raises:
        AudioError: The folder does not exist or cannot be read.
    """
    wanted = READABLE + UNREADABLE
    found, folders = [], [os.fspath(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif os.path.splitext(entry.name)[1].lower() in wanted:
                        found.append(entry.path)
        except OSError as error:
            raise AudioError(f"the folder cannot be read ({error.strerror}).", folder) from None
    return [Path(name) for name in sorted(found)]
