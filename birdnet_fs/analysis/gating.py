"""The gate of an analysis: which windows of a recording hold a call.

A gate reads the recording itself, at its own sample rate and in windows of the length it was fitted with, because the
windows of the model may be shorter or longer. A window of the model passes when a window of the gate passes that shares
at least half of the shorter one of the two with it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.audio.read import stream_audio
from birdnet_fs.data.windows import Window, WindowRule, batched

if TYPE_CHECKING:
    from birdnet_fs.motifs.no_call.gate import Gate

_TOLERANCE_S = 1e-3  # roundings of times to samples of two rates


class Gating:
    """The decisions of a gate on one recording.

    Args:
        gate: The gate.
        recording: The recording; AudioError is raised when it cannot be read.
        rule: Rule by which the model cuts the recording.
        batch_size: Windows of the gate at a time.
    """

    def __init__(self, gate: "Gate", recording: Path, rule: WindowRule, batch_size: int) -> None:
        self.rule, rate = rule, gate.sample_rate_hz
        n_samples = round(gate.window_s * rate)
        hop = round(rule.hop / rule.sample_rate_hz * rate)
        self._own = WindowRule(n_samples, min(max(hop, n_samples // 2, 1), n_samples), rate)
        starts, passed = list[int](), list[bool]()
        for group in batched(self._windows(recording), batch_size):
            starts += [start for start, _ in group]
            rows = np.stack([waveform for _, waveform in group])
            passed += (gate.probabilities(rows) >= gate.threshold).tolist()
        self._starts_s = np.array(starts) / rate
        self._passed = np.array(passed, bool)

    def _windows(self, recording: Path) -> Iterator[tuple[int, np.ndarray]]:
        """First sample and waveform of each window of the gate; the last one ends with the recording, unpadded."""
        n, hop, before = self._own.n_samples, self._own.hop, None
        for (start, n_real), waveform in self._own.stream(
            stream_audio(recording, sample_rate_hz=self._own.sample_rate_hz)
        ):
            if n_real < n and before is not None:
                n_new = n_real - (n - hop)
                start -= n - n_real
                waveform = np.concatenate([before[n_new:], waveform[n - hop : n_real]])
            before = waveform.copy()
            yield start, before

    def passes(self, windows: Sequence[Window]) -> NDArray[np.bool_]:
        """Decide on windows of the model.

        Args:
            windows: Their places.

        Returns:
            bool [n], whether each may give detections.
        """
        rate, length_s = self._own.sample_rate_hz, self._own.n_samples / self._own.sample_rate_hz
        starts = np.array([window.start for window in windows]) / self.rule.sample_rate_hz
        ends = starts + np.array([window.n_real for window in windows]) / self.rule.sample_rate_hz
        shared = np.minimum(ends[:, None], self._starts_s + length_s) - np.maximum(starts[:, None], self._starts_s)
        enough = np.minimum(ends - starts, length_s) / 2 - max(_TOLERANCE_S, 1 / rate)
        near = shared >= enough[:, None]
        return np.asarray((near & self._passed).any(axis=1) | ~near.any(axis=1))
