"""Opening of audio files with their header inspected and repaired."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

from birdnet_fs.audio.file_view import BufferedFile, FileView, Piece
from birdnet_fs.audio.files import EXTENSIONS, UNREADABLE, AudioError, open_file
from birdnet_fs.audio.headers import Header, inspect_header
from birdnet_fs.audio.native_messages import silenced
from birdnet_fs.audio.sample_statistics import SampleStatistics

MAX_CHANNELS = 32
RATE_RANGE_HZ = (1_000, 1_000_000)
MP3_MARGIN = 2 * 1152  # samples of encoder and decoder delay that are in the frames of MP3 and not in the audio
MAX_HEADERS = 1000  # results of inspections that are kept
_HEADERS: dict[tuple, Header] = {}


@dataclass
class OpenSource:
    """An open audio file with a plausible header."""

    path: Path | str
    sound: soundfile.SoundFile
    file: BufferedFile
    size: int  # of the file, bytes
    header: Header
    flags: tuple[str, ...] = ()
    sample_rate_hz: int = 0
    n_channels: int = 1
    bounded: bool = True  # libsndfile stops at the declared length; False: FLAC, decoded up to its true end
    recordings: tuple[Header, ...] = ()  # the header and those of recordings that were joined to it
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    tally: SampleStatistics = field(default_factory=SampleStatistics)
    n_before: int = 0  # samples of the joined recordings before the present one
    following: tuple[Header, ...] = ()  # the joined recordings behind the present one

    @property
    def declared(self) -> int | None:
        """Samples per channel of the present and earlier recordings of the file; None when not stated."""
        if self.header.kind == "flac":
            return self.header.n_samples or None
        n = self.sound.frames
        if self.header.kind == "mp3" and self.header.n_samples is not None:
            n = min(n, self.header.n_samples)
        return self.n_before + n if n < 1 << 40 else None

    def advance(self) -> bool:
        """Open the next of several recordings that were joined to one file; False when there is none.

        The reason is in `tally.error` when it cannot be decoded, or has another sample rate or number of channels.
        """
        if not self.following:
            return False
        header, *others = self.following
        at = f"a second recording begins at {(self.declared or 0) / self.sample_rate_hz:.3f} s"
        try:
            sound = self.closing.enter_context(_open(self.file, header, header.pieces))
        except (soundfile.SoundFileError, OSError, ValueError, TypeError):
            self.tally.error = f"{at}, which cannot be decoded."
            return False
        if (sound.samplerate, sound.channels) != (self.sample_rate_hz, self.n_channels):
            self.tally.error = f"{at}, with {sound.samplerate} Hz and {sound.channels} channels; it was not read."
            return False
        self.n_before, self.sound = self.declared or 0, sound
        self.header, self.following = header, tuple(others)
        return True


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
        header = _inspect(file, size, path)
        pieces = () if seeking and header.kind == "flac" else header.pieces
        with contextlib.ExitStack() as closing:
            try:
                sound = closing.enter_context(_open(file, header, pieces))
            except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
                why = str(getattr(error, "error_string", "") or error).strip().rstrip(".")
                advice = UNREADABLE.get(Path(path).suffix.lower(), "")
                end = f"; {advice}." if advice else "."
                raise AudioError(f"this is not audio that can be read ({why or 'unknown format'}){end}", path) from None
            low, high = RATE_RANGE_HZ
            if not 1 <= sound.channels <= MAX_CHANNELS:
                raise AudioError(f"{sound.channels} channels are not plausible (1 to {MAX_CHANNELS}).", path)
            if not low <= sound.samplerate <= high:
                raise AudioError(f"a sample rate of {sound.samplerate} Hz is not plausible ({low} to {high}).", path)
            flags = []
            known = EXTENSIONS.get("WAV" if sound.format == "WAVEX" else sound.format, ())
            if known and Path(path).suffix.lower() not in known:
                flags.append("wrong_extension")
            bounded = not (header.kind == "flac" and pieces)
            source = OpenSource(
                path, sound, file, size, header, tuple(flags), sound.samplerate, sound.channels, bounded
            )
            source.closing, source.following, source.recordings = closing, header.joined, (header, *header.joined)
            yield source


def _inspect(file: BufferedFile, size: int, path: Path | str) -> Header:
    """The header of an open file, kept for repeated reads of parts: Ogg and MP3 are inspected from start to end."""
    about = os.fstat(file.fileno())
    key = (os.fsencode(path), about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
    header = _HEADERS.get(key)
    if header is None:
        header = inspect_header(file, size, path)
        if len(_HEADERS) >= MAX_HEADERS:
            _HEADERS.clear()
        _HEADERS[key] = header
    return header


def _open(file: BufferedFile, header: Header, pieces: tuple[Piece, ...]) -> soundfile.SoundFile:
    """Open one recording of a file: by the file descriptor where possible, since callbacks into Python are slow."""
    with silenced():
        if pieces:
            return soundfile.SoundFile(BufferedFile(FileView(file, pieces)))
        if header.kind == "flac" or os.name != "posix":  # duration_s needs the position in a FLAC file
            file.seek(0)
            return soundfile.SoundFile(file, closefd=False)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        try:
            sound = soundfile.SoundFile(file.fileno(), closefd=False)
        except soundfile.SoundFileError:
            if not header.fallback:
                raise
            return _open(file, header, header.fallback)
    short = (header.n_samples or 0) - MP3_MARGIN > sound.frames
    return _open(file, header, header.fallback) if header.fallback and short else sound
