"""The gate of an analysis: which windows of a recording hold a call, on audio at the rate of the gate."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.audio.read import stream_audio
from birdnet_fs.data.windows import Window, WindowRule

if TYPE_CHECKING:
    from birdnet_fs.motifs.no_call.gate import Gate


class Gating:
    """Decides on the windows of one recording, batch after batch.

    A gate whose sample rate differs from that of the model reads the recording itself, so that it gets all frequencies
    it was fitted with.

    Args:
        gate: The gate.
        recording: The recording.
        rule: How the model cuts it.
    """

    def __init__(self, gate: "Gate", recording: Path, rule: WindowRule) -> None:
        self.gate = gate
        self._windows: Iterator[tuple[Window, np.ndarray]] | None = None
        rate = gate.sample_rate_hz
        if rate != rule.sample_rate_hz:
            n_samples, hop = (round(n * rate / rule.sample_rate_hz) for n in (rule.n_samples, rule.hop))
            own = WindowRule(n_samples, max(1, hop), rate)
            self._windows = own.stream(stream_audio(recording, sample_rate_hz=rate))

    def passes(self, waveforms: np.ndarray) -> NDArray[np.bool_]:
        """Decide on the next windows.

        Args:
            waveforms: float32 [n, n_samples], the windows as the model gets them.

        Returns:
            bool [n], whether each may give detections. So may a last window that roundings of the two rates give to the
            model alone.
        """
        found = np.ones(len(waveforms), bool)
        if self._windows is not None:
            pairs = zip(range(len(waveforms)), self._windows, strict=False)
            rows = [waveform.copy() for _, (_, waveform) in pairs]
            waveforms = np.stack(rows) if rows else waveforms[:0]
        found[: len(waveforms)] = self.gate.probabilities(waveforms) >= self.gate.threshold
        return found
