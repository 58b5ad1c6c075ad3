"""Features of a window for a detector: its band energies, pooled over time, and its correlations with the examples.

A window has the mean length of the examples. The correlation of two windows is that of their frames over time and
bands, without their means (template matching). Windows are made in blocks, so that memory is bounded.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from birdnet_fs.fewshot.detection.frames import Frames

MIN_FRAMES = 4  # of a window
N_PARTS = 6  # of a window in time, over which energies are pooled
N_SIMILAR = 3  # examples whose correlations are averaged
BLOCK = 8192  # windows at a time

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Windows:
    """All windows of a recording; window i starts at frame i.

    Attributes:
        hop_s: Seconds between the starts of two windows.
        n_frames: Length of a window in frames.
        pooled: float32 [n_windows, N_PARTS * n_bands], mean energies, standardized over the recording.
        correlations: float32 [n_windows, n_shots] with each example, -1 to 1; 0 for windows of constant energy.
        shots: int64 [n_shots], window of each example.
    """

    hop_s: float
    n_frames: int
    pooled: Floats
    correlations: Floats
    shots: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pooled)

    def similar(self, windows: NDArray[np.integer], shot: NDArray[np.integer] | None = None) -> Floats:
        """Largest, second and mean of the three largest correlations with the examples.

        Args:
            windows: Numbers of windows [n].
            shot: Example that each window belongs to [n], which is left out: an example is equal to
                itself. Default: None, all examples count.

        Returns:
            float32 [n, 3].
        """
        found = self.correlations[windows].copy()
        if shot is not None:
            found[np.arange(len(found)), shot] = -1.0
        found = np.sort(found, axis=1)[:, ::-1]
        usable = found[:, : found.shape[1] - (shot is not None)]
        second = usable[:, min(1, usable.shape[1] - 1)]
        return np.stack([usable[:, 0], second, usable[:, :N_SIMILAR].mean(axis=1)], axis=1)


def cut_windows(frames: Frames, shots_s: NDArray[np.float64]) -> Windows:
    """Make the windows of a recording.

    Args:
        frames: Frames of the recording.
        shots_s: float64 [n_shots, 2], onset and offset of the examples in seconds.

    Returns:
        The windows; an example is the window around its middle.
    """
    values, hop_s = frames.values, frames.hop_s
    n_frames = max(MIN_FRAMES, round(float(np.diff(shots_s, axis=1).mean()) / hop_s))
    n_frames = min(n_frames, len(values))
    views = sliding_window_view(values, n_frames, axis=0)  # [n_windows, n_bands, n_frames]
    starts = np.round(shots_s.mean(axis=1) / hop_s - n_frames / 2).astype(np.int64)
    shots = np.clip(starts, 0, len(views) - 1)
    templates = _normalized(views[shots])
    edges = np.linspace(0, n_frames, min(N_PARTS, n_frames) + 1).round().astype(int)
    pooled = np.empty((len(views), (len(edges) - 1) * values.shape[1]), np.float32)
    correlations = np.empty((len(views), len(shots)), np.float32)
    for start in range(0, len(views), BLOCK):
        block = views[start : start + BLOCK]
        correlations[start : start + BLOCK] = _normalized(block) @ templates.T
        parts = [block[:, :, a:b].mean(axis=2) for a, b in itertools.pairwise(edges)]
        pooled[start : start + BLOCK] = np.concatenate(parts, axis=1)
    pooled -= pooled.mean(axis=0, dtype=np.float64).astype(np.float32)
    pooled /= pooled.std(axis=0, dtype=np.float64).astype(np.float32) + np.float32(1e-6)
    return Windows(hop_s, n_frames, pooled, correlations, shots)


def _normalized(windows: Floats) -> Floats:
    """Windows [n, n_bands, n_frames] as rows with mean 0 and length 1; zeros for constant ones."""
    rows = windows.reshape(len(windows), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + np.float32(1e-6))
