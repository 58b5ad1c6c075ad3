"""Windows of clips in batches, without augmentation: validation data for `keras.Model.fit`."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import WindowRule
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.schema import FrontEnd


class WindowBatches:
    """All windows of the clips, in their order, each with the targets of its clip.

    Args:
        waveforms: The clips.
        targets: float32 [n_clips, n_classes].
        spec: The front-end.
        rule: Rule by which the clips are cut (`windows.clip_rule`).
        batch_size: Windows per batch, 1 or more. Default: 32.
        kept: Features of the windows of each clip, float32 [n_windows, n_frames, n_mels]. Default: None, they are
            computed in every epoch.
    """

    def __init__(
        self,
        waveforms: Waveforms,
        targets: np.ndarray,
        spec: FrontEnd,
        rule: WindowRule,
        *,
        batch_size: int = 32,
        kept: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.waveforms, self.targets, self.spec, self.rule = waveforms, targets, spec, rule
        self.batch_size, self.kept = batch_size, kept
        lengths = [round(seconds * spec.sample_rate_hz) for seconds in waveforms.durations_s]
        self._rows = [(clip, row) for clip, n in enumerate(lengths) for row in range(len(rule.windows(n)))]

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self._rows) // self.batch_size)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Sequence[np.ndarray]]:
        """Yield the batches, the same in every epoch.

        Args:
            epoch: Not used.
            first: Number of the first batch, from 0. Default: 0.

        Yields:
            Features float32 [batch, n_frames, n_mels, n_channels] and targets float32 [batch, n_classes].
        """
        for start in range(first * self.batch_size, len(self._rows), self.batch_size):
            rows = self._rows[start : start + self.batch_size]
            parts = [self._features(clip, [row for _, row in own]) for clip, own in groupby(rows, lambda r: r[0])]
            yield network_input(np.concatenate(parts), self.spec), self.targets[[clip for clip, _ in rows]]

    def _features(self, clip: int, rows: list[int]) -> np.ndarray:
        if self.kept is not None:
            return self.kept[clip][rows]
        return log_mel(self.rule.cut(self.waveforms[clip])[rows], self.spec)
