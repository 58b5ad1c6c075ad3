"""Decoding of audio files in blocks, through libsndfile (soundfile).

Reading a whole file at once loses all samples when one position is damaged, and relies on the length in the header.
Blocks keep the samples before the damage and need constant memory. The buffer is filled with NaN before each read, so
that the samples decoded before an error can be counted. Ogg Vorbis is sought by ogg.py, since libsndfile 1.2.2 is wrong
by up to seconds; MP3 needs some preceding samples for its bit reservoir.
"""

import io
import math
from collections.abc import Iterator

import numpy as np
import soundfile

from birdnet_fs.audio.file_view import BufferedFile, FileView
from birdnet_fs.audio.files import AudioError
from birdnet_fs.audio.headers import Header
from birdnet_fs.audio.native_messages import silenced
from birdnet_fs.audio.ogg import gap_before
from birdnet_fs.audio.sample_statistics import mono_block
from birdnet_fs.audio.source import MP3_MARGIN, OpenSource

BLOCK = 1 << 17  # samples of all channels per read: fits into the cache, and the cost per call is negligible
RUN_UP = 24_000  # samples decoded and dropped before a part of an MP3 file
LOUD_LEVEL = 4.0  # 12 dB above full scale; such samples are kept and flagged
SILENT_STEP = 2.0**-15  # peak-to-peak amplitude of a silent recording: one 16-bit step
OPUS_RATE_HZ = 48_000  # of granule positions
_LENGTH_ERROR = 39  # libsndfile's code of a failed seek, which follows the last block of a file of unknown length


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
    tally, n_channels = source.tally, source.n_channels
    buffer = np.empty((max(1, BLOCK // n_channels), n_channels), np.float32)
    integers = _prepared(source, buffer)
    left = math.inf if count is None else count
    while left > 0 and not tally.error:
        wanted = int(min(len(buffer), skip + left))
        block = buffer[:wanted]
        n = _fill(source, block, None if integers is None else integers[:wanted])
        if n == 0:
            if tally.error or not source.advance():
                return
            integers = _prepared(source, buffer)
            continue
        block = block[:n]
        if skip:
            dropped = min(skip, n)
            skip -= dropped
            block = block[dropped:]
            if not len(block):
                continue
        left -= len(block)
        yield block


def _prepared(source: OpenSource, buffer: np.ndarray) -> np.ndarray | None:
    """The buffer of integers of a 16-bit file; None for other files."""
    sound = source.sound
    if (info := getattr(sound, "_info", None)) is not None:
        info.seekable = 0  # soundfile seeks to its position after every read, which is slow at the end of FLAC
    return np.empty(buffer.shape, np.int16) if sound.subtype == "PCM_16" and sound.format != "FLAC" else None


def _seek(source: OpenSource, start: int) -> int:
    """Seek to sample `start` or to a sample before it; returns the number of samples to drop."""
    while source.following and start >= (source.declared or 0):
        if not source.advance():
            return 0
    start -= source.n_before
    if start == 0 or not source.bounded or not source.sound.seekable() or source.recordings[1:]:
        return start
    if source.header.codec == "vorbis":
        return _leave_out(source, start)
    run_up = min(start, RUN_UP if source.sound.format == "MP3" or source.header.kind in ("ogg", "") else 0)
    try:
        with silenced():
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
    begin, end = gap
    try:
        view = BufferedFile(FileView(file, ((0, begin), (end, source.size))))
        sound = source.closing.enter_context(soundfile.SoundFile(view))
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
        with silenced():
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
    rate = source.sample_rate_hz
    reasons = [reason for each in source.recordings if (reason := _damage(each, rate))]
    if tally.error:
        reasons.append(tally.error)
    if tally.n_samples == 0:
        raise AudioError(" ".join(reasons) or "the file holds no samples.", source.path)
    if tally.n_bad * 2 > tally.n_samples:
        raise AudioError(
            f"{tally.n_bad} of {tally.n_samples} samples are NaN, infinite or implausibly large.", source.path
        )
    flags += dict.fromkeys(flag for each in source.recordings for flag in each.flags)
    if source.recordings[1:]:
        flags.append(f"joined={len(source.recordings)}")
    declared = source.declared
    missing = (declared or tally.n_samples) - tally.n_samples
    if whole and (missing > MP3_MARGIN or (missing and header.kind != "mp3")):
        if missing > 0 and header.kind in ("ogg", "mp3"):
            if "time_axis_unreliable" not in flags and not reasons:
                flags.append("time_axis_unreliable")
                reasons.append(f"{missing / rate:.3f} s are missing in the file; the audio after the gap is shifted.")
        elif not reasons:
            stated = (declared or 0) / rate
            reasons.append(f"the header states {stated:.3f} s, {tally.n_samples / rate:.3f} s were decoded.")
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


def _damage(header: Header, sample_rate_hz: int) -> str:
    """The damage of one recording of a file, with the seconds that are stated and lost at its end; "" = none known."""
    if not header.n_lost:
        return header.damage
    seconds = header.n_lost / (OPUS_RATE_HZ if header.codec == "opus" else sample_rate_hz)
    return f"{header.damage} {seconds:.3f} s are lost at the end."
