"""Reading of recordings: mono float32 waveforms in +-1 at any sample rate, with the status of the file.

Files are decoded in blocks by libsndfile (decode.py), averaged over channels and resampled with soxr HQ. The status is
"ok" or "partial" (only a first part could be decoded, for the given reason), with flags; a file that cannot be used at
all raises `AudioError`. Damage inside plain PCM samples cannot be detected, nor can a truncated MP3 without a Xing/Info
header.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from birdnet_fs.audio.decode import assess, blocks
from birdnet_fs.audio.files import AudioError
from birdnet_fs.audio.headers import NOT_STATED
from birdnet_fs.audio.source import OpenSource, open_source

__all__ = [
    "Audio",
    "AudioCheck",
    "AudioError",
    "AudioStream",
    "check_audio",
    "duration_s",
    "read_audio",
    "stream_audio",
]

MAX_PREALLOCATED = 1 << 24  # samples allocated before decoding, whatever length the header declares
MAX_SAMPLES = 1 << 29  # longest waveform of one read_audio (2 GiB, 4.6 h at 32 kHz)
FILTER_MARGIN = 1024  # samples of the lower rate decoded around a part for the resampling filter


@dataclass(frozen=True)
class Audio:
    """A waveform and the status of its file."""

    waveform: np.ndarray  # float32 [n_samples], mono, nominally in +-1
    sample_rate_hz: int  # of the waveform
    duration_s: float  # of the waveform, seconds
    status: str  # "ok" or "partial"
    flags: tuple[str, ...]  # listed in read_audio
    reason: str  # why the status is partial; "" when ok


def read_audio(
    path: Path | str, *, sample_rate_hz: int, onset_s: float = 0.0, duration_s: float | None = None
) -> Audio:
    """Read a recording, or a part of it, as a mono waveform.

    A part equals the same slice of the whole to within the rounding of the resampler (tests/tolerances.py,
    PART_OF_WHOLE). In a damaged Ogg Vorbis file, however, a part is at its true time, while in the whole file the
    audio after the damage is shifted.

    Args:
        path: WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, W64, RF64, CAF or AU; any name and extension.
        sample_rate_hz: Sample rate of the waveform, Hz; files with another rate are resampled (soxr HQ).
        onset_s: Start of the part, seconds, 0 or more; rounded to a sample. Default: 0.
        duration_s: Length of the part, seconds, 0 or more; None = to the end. A recording that ends earlier gives a
            shorter waveform with the flag "short".

    Returns:
        The waveform, float32 [n_samples], and the status of the file (of the part, when a part is read). Flags:
        wrong_extension, header_repaired, length_not_stated (a truncation cannot be detected), wrong_header_length,
        time_axis_unreliable, joined=N (N recordings one behind the other in one file), bad_samples=N (set to zero),
        silent, antiphase (the channel with the largest power was used), beyond_full_scale, short.

    Raises:
        AudioError: The file is missing, not audio, implausible, without samples, mostly NaN, or too long for one
            array, or `onset_s` is beyond its end.
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
    if seek_failed:  # a wrong length in a FLAC header makes seeking wrong too
        with open_source(path) as source:
            waveform = _read(source, sample_rate_hz, first, wanted)
    if source.tally.antiphase:
        loudest = source.tally.louder
        with open_source(path, seeking=first > 0 and not seek_failed) as source:
            source.tally.channel = loudest
            waveform = _read(source, sample_rate_hz, first, wanted)
    if first > 0 and not len(waveform):
        raise AudioError(f"there is no audio at {onset_s:g} s; the recording ends earlier.", path)
    status, flags, reason = assess(source, whole=not part)
    if not len(waveform):
        raise AudioError(f"{source.tally.n_samples} samples are too few to resample.", path)
    if wanted is not None and len(waveform) < wanted:
        flags += ("short",)
    seconds = len(waveform) / sample_rate_hz if part else source.tally.n_samples / source.sample_rate_hz
    return Audio(waveform, sample_rate_hz, seconds, status, flags, reason)


def _read(source: OpenSource, rate: int, first: int, wanted: int | None) -> np.ndarray:
    """Samples first to first + wanted at `rate`, float32 [n]."""
    native = source.sample_rate_hz
    start, count, drop = first, wanted, 0
    if native != rate:
        step = native // math.gcd(native, rate)  # input samples between instants that both grids share
        margin = math.ceil(FILTER_MARGIN * max(1, native / rate))
        start = max(0, first * native // rate - margin) // step * step
        drop = first - start * rate // native
        count = None if wanted is None else math.ceil((first + wanted) * native / rate) + margin - start
    expected = (source.declared or 0) - start if count is None else count
    waveform, total = np.empty(max(0, min(expected * rate // native + FILTER_MARGIN, MAX_PREALLOCATED)), np.float32), 0
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
    """Resample consecutive blocks with one soxr HQ stream.

    Args:
        chunks: float32 [n] each, at rate `native`.
        native: Input sample rate, Hz.
        rate: Output sample rate, Hz.

    Yields:
        float32 [m], possibly empty; valid until the next block, so copy what you keep.
    """
    if native == rate:
        yield from chunks
        return
    stream = soxr.ResampleStream(native, rate, 1, dtype="float32", quality="HQ")
    for chunk in chunks:
        yield stream.resample_chunk(chunk)
    yield stream.resample_chunk(np.empty(0, np.float32), last=True)


class AudioStream:
    """Iterable over the blocks of one recording, in constant memory.

    `status`, `flags`, `reason` and `duration_s` are final after the last block. Channels that cancel each other are
    detected block by block; from the first detection on, the channel with the larger power is used.

    Args:
        path: The recording.
        sample_rate_hz: Sample rate of the blocks, Hz.
        block_s: Length of a block, seconds.
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
    """Read a recording of any length in blocks.

    Args:
        path: WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, W64, RF64, CAF or AU file; any name and extension.
        sample_rate_hz: Sample rate of the blocks, Hz.
        block_s: Length of a block, seconds. Default: 30.

    Returns:
        Iterable over float32 [round(block_s * sample_rate_hz)] (the last block is shorter). Iterating raises
        AudioError as `read_audio` does; the blocks before the error are valid.
    """
    return AudioStream(path, sample_rate_hz, block_s)


@dataclass(frozen=True)
class AudioCheck:
    """Status of a file after decoding all of it."""

    duration_s: float  # of the decoded samples, seconds
    sample_rate_hz: int  # of the file
    n_channels: int
    status: str  # "ok" or "partial"
    flags: tuple[str, ...]  # listed in read_audio
    reason: str  # why the status is partial; "" when ok


def check_audio(path: Path | str) -> AudioCheck:
    """Decode a whole file at its own sample rate, in constant memory, to find its status and true length.

    AudioError is raised as in `read_audio`.

    Args:
        path: The recording.

    Returns:
        Status, flags and length.
    """
    with open_source(path) as source:
        for _ in blocks(source):
            pass  # the statistics are in source.tally
        status, flags, reason = assess(source, whole=True)
        seconds = source.tally.n_samples / source.sample_rate_hz
        return AudioCheck(seconds, source.sample_rate_hz, source.n_channels, status, flags, reason)


def duration_s(path: Path | str) -> float:
    """Length of a recording, without decoding it where the header can be verified.

    The length of WAV, AIFF and similar files follows from the header and the size of the file, that of Ogg and of MP3
    with a Xing header from the intact pages or frames. A FLAC header is used when its last sample can be decoded and
    the file ends there. Other and damaged files are decoded. AudioError is raised as in `read_audio`.

    Args:
        path: The recording.

    Returns:
        Seconds.
    """
    with open_source(path, seeking=True) as source:
        header = source.header
        sure = header.kind not in ("", "flac") and not any(each.damage for each in source.recordings)
        if header.kind == "mp3":  # else the length is an estimate
            estimated = any(NOT_STATED in each.flags for each in source.recordings)
            sure = sure and not estimated and source.sound.frames <= (header.n_samples or 0)
        if header.kind == "flac" and 0 < (n := source.sound.frames) < 1 << 36:
            there = sum(len(block) for block in blocks(source, n - 1))
            sure = there == 1 and not source.tally.error and source.file.tell() == source.size
        while sure and source.advance():
            pass
        if sure and not source.tally.error and source.declared:
            return source.declared / source.sample_rate_hz
    return check_audio(path).duration_s
