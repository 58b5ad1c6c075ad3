"""Clips as waveforms: decoded once and kept in memory up to a limit, beyond it decoded at every access."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from birdnet_fs.audio.read import Audio, AudioError, read_audio
from birdnet_fs.audio.recording_end import PAST_END, cut_at_end, past_end_message
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say, track
from birdnet_fs.data.ledger import Ledger, LedgerRow
from birdnet_fs.data.manifest import Clip

MEMORY_BYTES = 4_000_000_000


@dataclass(frozen=True)
class ReadClip:
    """A clip as decoded.

    Attributes:
        clip: The clip; one that ends past its recording is cut there.
        row: Row of the ledger for the clip.
        waveform: float32 [n_samples] in ±1; None for a clip that cannot be read.
        past_end: A sentence with the times, for a clip that ends past its recording; "" otherwise.
    """

    clip: Clip
    row: LedgerRow
    waveform: np.ndarray | None
    past_end: str = ""


def read_clip(clip: Clip, sample_rate_hz: int) -> ReadClip:
    """Decode one clip; one that cannot be read is no error, but a row of the ledger with the reason.

    Args:
        clip: The clip.
        sample_rate_hz: Rate of the waveform.

    Returns:
        The clip as decoded.
    """
    path = os.fspath(clip.path)
    try:
        audio = _read(clip, sample_rate_hz)
    except AudioError as error:
        return ReadClip(clip, LedgerRow(path, "quarantined", error.reason, source=clip.source), None)
    status, reason, flags, past_end = audio.status, audio.reason, tuple(audio.flags), ""
    if clip.offset_s is not None and "short" in flags:
        end = cut_at_end(clip.onset_s, clip.offset_s, clip.onset_s + audio.duration_s)
        clip, past_end = replace(clip, offset_s=end.offset_s), end.reason
        if past_end:
            status, reason, flags = "partial", f"{reason} {past_end}".strip(), (*flags, PAST_END)
    row = LedgerRow(path, status, reason, flags, float(audio.duration_s), clip.source)
    return ReadClip(clip, row, audio.waveform, past_end)


class Waveforms:
    """Sequence of the waveforms of clips, in the order of the clips that could be read.

    Args:
        clips: Clips to read. A clip that cannot be read is left out of the attribute `clips` and listed in `ledger`;
            one that ends past its recording is cut there (recording_end.py).
        sample_rate_hz: Rate of the waveforms.
        memory_bytes: Memory for decoded waveforms; clips beyond it are decoded at every access. Default: 4 GB.

    Attributes:
        clips: The clips that could be read, in order.
        durations_s: Their lengths as decoded, in seconds.
        ledger: The status of every clip.

    Raises:
        UserError: None of the clips could be read.
    """

    def __init__(self, clips: Sequence[Clip], sample_rate_hz: int, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.ledger = Ledger()
        kept: list[Clip] = []
        durations_s: list[float] = []
        self._held: list[np.ndarray | None] = []
        room = memory_bytes
        past_end: list[tuple[object, str]] = []
        for index, clip in enumerate(track(clips, "reading clips", unit="clip")):
            found, n_samples = self._first_read(index, clip)
            row, waveform = found.row, found.waveform
            self.ledger.add(row.path, row.status, row.reason, row.flags, row.duration_s, row.source)
            if not n_samples:
                continue
            if found.past_end:
                past_end.append((clip.source or clip.path, found.past_end))
            kept.append(found.clip)
            durations_s.append(n_samples / sample_rate_hz)
            fits = waveform is not None and waveform.nbytes <= room
            self._held.append(waveform if fits else None)
            room -= waveform.nbytes if waveform is not None and fits else 0
        if clips and not kept:
            first = self.ledger.rows[0]
            raise UserError(f"None of the {len(clips)} clips could be read; the first, {first.path}: {first.reason}.")
        if past_end:
            say(past_end_message(past_end))
        self.clips: tuple[Clip, ...] = tuple(kept)
        self.durations_s = tuple(durations_s)

    def _first_read(self, index: int, clip: Clip) -> tuple[ReadClip, int]:
        """Read the clip number `index` of the input; with the number of its samples, 0 when it cannot be read."""
        found = read_clip(clip, self.sample_rate_hz)
        return found, 0 if found.waveform is None else len(found.waveform)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> np.ndarray:
        """The waveform of one clip, float32 [n_samples] in +-1."""
        held = self._held[index]
        return held if held is not None else _read(self.clips[index], self.sample_rate_hz).waveform


Read = Callable[[Sequence[Clip], int], Waveforms]  # (clips, sample_rate_hz) -> their waveforms


def _read(clip: Clip, sample_rate_hz: int) -> Audio:
    length = None if clip.offset_s is None else clip.offset_s - clip.onset_s
    audio = read_audio(Path(clip.path), sample_rate_hz=sample_rate_hz, onset_s=clip.onset_s, duration_s=length)
    if audio.waveform.size == 0:
        raise AudioError("no samples in the clip's time range", clip.path)
    return audio
