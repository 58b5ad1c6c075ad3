"""Segments of recordings: decoded once and kept as 16-bit samples while there is room."""

from collections import OrderedDict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.audio.files import AudioError
from birdnet_fs.audio.read import read_audio
from birdnet_fs.motifs.extract_triplets import padded, to_int16

MEMORY_BYTES = 1_000_000_000
LONGEST_S = 600.0  # longer recordings are read in parts


class AudioCache:
    """Segments of recordings by path.

    Args:
        sample_rate_hz: Rate of the segments.
        memory_bytes: Memory for decoded recordings; the least recently used are dropped. Default: MEMORY_BYTES.
    """

    def __init__(self, sample_rate_hz: int, memory_bytes: int = MEMORY_BYTES) -> None:
        self.sample_rate_hz = sample_rate_hz
        self._room = memory_bytes
        self._held: OrderedDict[Path, NDArray[np.int16] | AudioError] = OrderedDict()

    def segment(self, path: Path, center_s: float, n_samples: int, length_s: float) -> NDArray[np.float32]:
        """Read a segment around a time, moved inside its recording, with silence at the end of a shorter one.

        Args:
            path: The recording.
            center_s: Center of the segment in seconds.
            n_samples: Length of the segment.
            length_s: Length of the recording in seconds.

        Returns:
            float32 [n_samples] in ±1.

        Raises:
            AudioError: The recording cannot be decoded.
        """
        rate = self.sample_rate_hz
        start = max(0, min(round(center_s * rate) - n_samples // 2, round(length_s * rate) - n_samples))
        if length_s > LONGEST_S:
            audio = read_audio(path, sample_rate_hz=rate, onset_s=start / rate, duration_s=n_samples / rate)
            return padded(audio.waveform, n_samples)
        samples = self._recording(path)
        start = max(0, min(start, len(samples) - n_samples))
        return padded(samples[start:], n_samples).astype(np.float32) / np.float32(32_768.0)

    def _recording(self, path: Path) -> NDArray[np.int16]:
        held = self._held.get(path)
        if held is None:
            try:
                held = to_int16(read_audio(path, sample_rate_hz=self.sample_rate_hz).waveform)
                self._room -= held.nbytes
            except AudioError as error:  # it is not tried again
                held = error
            self._held[path] = held
            while self._room < 0 and len(self._held) > 1:
                _, dropped = self._held.popitem(last=False)
                self._room += 0 if isinstance(dropped, AudioError) else dropped.nbytes
        self._held.move_to_end(path)
        if isinstance(held, AudioError):
            raise held
        return held
