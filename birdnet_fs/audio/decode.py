"""Decoding of audio files in blocks, through libsndfile (soundfile).

Reading a whole file at once loses all samples when one position is damaged, and relies on the length in the header.
Blocks keep the samples before the damage and need constant memory. The buffer is filled with NaN before each read, so
that the samples decoded before an error can be counted. Ogg Vorbis is sought by ogg.py, since libsndfile 1.2.2 is wrong
by up to seconds; MP3 needs some preceding samples for its bit reservoir.
"""

import contextlib
import io
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from birdnet_fs.audio.headers import (
    EXTENSIONS,
    UNREADABLE,
    AudioError,
    BufferedFile,
    Header,
    PatchedFile,
    inspect_header,
    open_file,
)
from birdnet_fs.audio.ogg import FileWithoutRange, gap_before
from birdnet_fs.audio.sample_statistics import SampleStatistics, mono_block

BLOCK = 1 << 17  # samples of all channels per read: fits into the cache, and the cost per call is negligible
MAX_CHANNELS = 32
RATE_RANGE_HZ = (1_000, 1_000_000)
RUN_UP = 24_000  # samples decoded and dropped before a part of an MP3 file
LOUD_LEVEL = 4.0  # 12 dB above full scale; such samples are kept and flagged
SILENT_STEP = 2.0**-15  # peak-to-peak amplitude of a silent recording: one 16-bit step
_LENGTH_ERROR = 39  # libsndfile's code of a failed seek, which follows the last block of a file of unknown length


@dataclass
class OpenSource:
    """An open audio file with a plausible header."""

    path: Path | str
    sound: soundfile.SoundFile
    file: BinaryIO
    size: int  # of the file, bytes
    header: Header
    flags: tuple[str, ...] = ()
    sample_rate_hz: int = 0
    n_channels: int = 1
    bounded: bool = True  # libsndfile stops at the declared length; False: FLAC, decoded up to its true end
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    tally: SampleStatistics = field(default_factory=SampleStatistics)

    @property
    def declared(self) -> int | None:
        """Samples per channel according to the header; None when it does not contain a length."""
        if self.header.kind == "flac":
            return self.header.declared or None
        return self.sound.frames if self.sound.frames < 1 << 40 else None


@contextlib.contextmanager
def open_source(path: Path | str, *, seeking: bool = False) -> Iterator[OpenSource]:
    """Open a recording with its header checked and repaired.

    Args:
        path: Any name, also one that is not UTF-8.
        seeking: Keep the length in a FLAC header, which seeking needs and which may be wrong.

    Yields:
        The open file.

    Raises:
        AudioError: The file cannot be used as audio; the reason is one sentence.
    """
    file, size = open_file(path)
    with file:
        header = inspect_header(file, size, path)
        patches = {} if seeking and header.kind == "flac" else header.patches
        try:
            sound = soundfile.SoundFile(_source(file, header.kind, patches), closefd=False)
        except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
            why = str(getattr(error, "error_string", "") or error).strip().rstrip(".")
            advice = UNREADABLE.get(Path(path).suffix.lower(), "")
            end = f"; {advice}." if advice else "."
            raise AudioError(f"this is not audio that can be read ({why or 'unknown format'}){end}", path) from None
        with contextlib.ExitStack() as closing:
            closing.enter_context(sound)
            low, high = RATE_RANGE_HZ
            if not 1 <= sound.channels <= MAX_CHANNELS:
                raise AudioError(f"{sound.channels} channels are not plausible (1 to {MAX_CHANNELS}).", path)
            if not low <= sound.samplerate <= high:
                raise AudioError(f"a sample rate of {sound.samplerate} Hz is not plausible ({low} to {high}).", path)
            flags = list(header.flags)
            known = EXTENSIONS.get("WAV" if sound.format == "WAVEX" else sound.format, ())
            if known and Path(path).suffix.lower() not in known:
                flags.append("wrong_extension")
            yield OpenSource(
                path, sound, file, size, header, tuple(flags), sound.samplerate, sound.channels, not patches, closing
            )


def _source(file: BinaryIO, kind: str, patches: Mapping[int, bytes]) -> Any:
    """The input of soundfile: the file descriptor where possible, since callbacks into Python are slow."""
    if not patches and (kind == "flac" or os.name != "posix"):  # duration_s needs the position in a FLAC file
        file.seek(0)
        return file
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    return BufferedFile(PatchedFile(file, patches)) if patches else file.fileno()


def blocks(source: OpenSource, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
    """Decode a file to mono blocks: the mean of the channels, or `source.tally.channel`; bad samples become zero.

    Args:
        source: The open file.
        start: Index of the first sample.
        count: Largest number of samples in total; None = to the end.

    Yields:
        float32 [n]; valid until the next block is decoded, so copy what you keep.
    """
    for block in channel_blocks(source, start, count):
        yield mono_block(block, source.tally)


def channel_blocks(source: OpenSource, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
    """Decode a file to blocks of all channels, float32 [n, n_channels]; bad samples are kept.

    Args:
        source: The open file.
        start: Index of the first sample.
        count: Largest number of samples in total; None = to the end.

    Yields:
        Blocks, valid until the next one is decoded.
    """
    skip = _seek(source, start)
    sound, tally, n_channels = source.sound, source.tally, source.n_channels
    buffer = np.empty((max(1, BLOCK // n_channels), n_channels), np.float32)
    integers = np.empty(buffer.shape, np.int16) if sound.subtype == "PCM_16" and sound.format != "FLAC" else None
    if (info := getattr(sound, "_info", None)) is not None:
        info.seekable = 0  # soundfile seeks to its position after every read, which is slow at the end of FLAC
    left = math.inf if count is None else count
    while left > 0 and not tally.error:
        wanted = int(min(len(buffer), skip + left))
        block = buffer[:wanted]
        n = _fill(source, block, None if integers is None else integers[:wanted])
        if n == 0:
            return
        block = block[:n]
        if skip:
            dropped = min(skip, n)
            skip -= dropped
            block = block[dropped:]
            if not len(block):
                continue
        left -= len(block)
        yield block


def _seek(source: OpenSource, start: int) -> int:
    """Seek to sample `start` or to a sample before it; returns the number of samples to drop."""
    if start == 0 or not source.bounded or not source.sound.seekable():
        return start
    if source.header.vorbis:
        return _leave_out(source, start)
    run_up = min(start, RUN_UP if source.sound.format == "MP3" or source.header.kind in ("ogg", "") else 0)
    try:
        source.sound.seek(start - run_up)
    except (soundfile.SoundFileError, OSError, ValueError):
        source.tally.error = f"no samples could be decoded at {start / source.sample_rate_hz:.3f} s."
    return run_up


def _leave_out(source: OpenSource, start: int) -> int:
    """Seek in Ogg Vorbis by decoding a view of the file without the preceding pages; returns as `_seek`."""
    file = source.closing.enter_context(io.FileIO(source.path))
    gap = gap_before(file, source.size, start)
    if gap is None:
        return start
    try:
        sound = source.closing.enter_context(
            soundfile.SoundFile(BufferedFile(FileWithoutRange(file, *gap, source.size)))
        )
    except (soundfile.SoundFileError, OSError, ValueError):
        return start
    dropped = start - (source.sound.frames - sound.frames)
    if not 0 <= dropped <= start:
        return start
    source.sound = sound
    return dropped


def _fill(source: OpenSource, block: np.ndarray, integers: np.ndarray | None) -> int:
    """Decode into `block` [n, n_channels]; returns the number of decoded samples, also after an error.

    `integers` is a buffer for 16-bit files, which numpy converts to the same float32 values 5 times as fast.
    """
    sound, tally = source.sound, source.tally
    block.fill(np.nan)
    try:
        if integers is None:
            return sound.buffer_read_into(block, dtype="float32")
        n = sound.buffer_read_into(integers, dtype="int16")
        np.multiply(integers[:n], np.float32(2.0**-15), out=block[:n])
        return n
    except (soundfile.SoundFileError, OSError) as error:
        there = ~np.isnan(block).all(axis=1)
        n = len(there) - int(np.argmax(there[::-1])) if there.any() else 0
        if not (source.header.kind == "flac" and getattr(error, "code", 0) == _LENGTH_ERROR):
            why = str(getattr(error, "error_string", "") or error).strip().rstrip(".") or "damaged data"
            tally.error = f"decoding stopped at {(tally.n_samples + n) / sound.samplerate:.3f} s ({why})."
        return n


def assess(source: OpenSource, *, whole: bool) -> tuple[str, tuple[str, ...], str]:
    """Summarize the state of a file after its blocks were decoded.

    Args:
        source: The file, with complete statistics.
        whole: Whether it was decoded from the first sample to the last.

    Returns:
        Status ("ok" or "partial"), flags, and the reason for "partial" ("" when ok).

    Raises:
        AudioError: No sample could be decoded, or more than half of the samples are invalid.
    """
    tally, header, flags = source.tally, source.header, list(source.flags)
    if tally.n_samples == 0:
        raise AudioError(tally.error or header.truncated or "the file holds no samples.", source.path)
    if tally.n_bad * 2 > tally.n_samples:
        raise AudioError(
            f"{tally.n_bad} of {tally.n_samples} samples are NaN, infinite or implausibly large.", source.path
        )
    reasons = [reason for reason in (header.truncated, tally.error) if reason]
    declared = source.declared
    if whole and declared and declared != tally.n_samples:
        missing = declared - tally.n_samples
        rate = source.sample_rate_hz
        if missing > 0 and header.kind in ("ogg", "mp3") and not reasons:
            flags.append("time_axis_unreliable")
            reasons.append(f"{missing / rate:.3f} s are missing inside the file; the audio after the gap is shifted.")
        elif not reasons:
            reasons.append(f"the header declares {declared / rate:.3f} s, {tally.n_samples / rate:.3f} s were decoded.")
        if missing < 0 or (header.kind == "flac" and not tally.error):
            flags.append("wrong_header_length")
    if tally.n_bad:
        flags.append(f"bad_samples={tally.n_bad}")
    if tally.high - tally.low <= SILENT_STEP:
        flags.append("silent")
    if tally.antiphase:
        flags.append("antiphase")
    if max(tally.high, -tally.low) > LOUD_LEVEL:
        flags.append("beyond_full_scale")
    return ("partial" if reasons else "ok"), tuple(flags), " ".join(reasons)
