"""The rule by which recordings and clips are cut into windows, for a waveform, a length or a stream.

Window k starts at sample k * hop. Whole windows are always used. Samples at the end that no whole window covers (the
rest) give one more window, padded with zeros on the right, when they last at least min(1 s, half a window); a shorter
rest is dropped. A waveform shorter than one window gives one padded window. A reported end is never later than the end
of the recording. The readers in the root folder export/ repeat this rule for devices that cannot import the package.

Recordings are cut with a hop of one window unless a setting gives another (`data.segment_hop_s`, `--overlap`).
Labeled clips, whose window scores or embeddings are averaged, are cut with a hop of half a window (`clip_rule`).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from birdnet_fs.core.errors import UserError

Item = TypeVar("Item")
TOLERANCE_SAMPLES = 1e-6  # so that a half sample, computed from a length in seconds, is rounded up despite float errors


class Window(NamedTuple):
    """Place of a window: its first sample and how many of its samples are real; the others are zeros."""

    start: int
    n_real: int


@dataclass(frozen=True)
class WindowRule:
    """The rule for one window length, hop and sample rate.

    Attributes:
        n_samples: Length of a window in samples, 1 or more.
        hop: Samples from one window to the next, 1 or more.
        sample_rate_hz: Rate of the waveforms.
    """

    n_samples: int
    hop: int
    sample_rate_hz: int

    @property
    def min_rest(self) -> int:
        """Smallest rest in samples that gives a padded window: 1 s or half a window, whichever is shorter."""
        return min(self.sample_rate_hz, (self.n_samples + 1) // 2)

    def windows(self, n_total: int) -> list[Window]:
        """Windows of a recording, in order.

        Args:
            n_total: Length of the recording in samples, 0 or more.

        Returns:
            One window or more; none when `n_total` is 0.

        >>> rate = 100
        >>> [len(WindowRule(5 * rate, 5 * rate, rate).windows(round(s * rate))) for s in (0.2, 5.5, 6.5, 8.0)]
        [1, 1, 2, 2]
        """
        n_whole = max(0, (n_total - self.n_samples) // self.hop + 1)
        found = [Window(i * self.hop, self.n_samples) for i in range(n_whole)]
        last = self._padded(n_total, n_whole)
        return found if last is None else [*found, last]

    def cut(self, waveform: np.ndarray) -> np.ndarray:
        """Windows of a waveform.

        Args:
            waveform: [n_total] samples.

        Returns:
            [n_windows, n_samples], a copy of the same dtype.

        >>> WindowRule(4, 2, 1).cut(np.arange(1, 8)).tolist()
        [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 0]]
        """
        found = self.windows(len(waveform))
        cut = np.zeros((len(found), self.n_samples), waveform.dtype)
        for row, (start, n_real) in zip(cut, found, strict=True):
            row[:n_real] = waveform[start : start + n_real]
        return cut

    def stream(self, blocks: Iterable[np.ndarray]) -> Iterator[tuple[Window, np.ndarray]]:
        """Windows of a recording of any length, in constant memory.

        Args:
            blocks: float32 pieces of the recording in order, of any lengths.

        Yields:
            Windows in order with their waveforms, float32 [n_samples]. A whole one is a view: do not write to it.

        >>> [tuple(window) for window, _ in WindowRule(4, 3, 1).stream([np.ones(3), np.ones(5)])]
        [(0, 4), (3, 4), (6, 2)]
        """
        held = np.empty(0, np.float32)
        first = n_whole = 0  # sample number of held[0], whole windows yielded
        for block in blocks:
            held = np.concatenate([held, np.asarray(block, np.float32)])
            while (start := n_whole * self.hop) + self.n_samples <= first + len(held):
                yield Window(start, self.n_samples), held[start - first : start - first + self.n_samples]
                n_whole += 1
            gone = min(start - first, len(held))
            held, first = held[gone:], first + gone
        last = self._padded(first + len(held), n_whole)
        if last is not None:
            yield last, pad_to(held[last.start - first :], self.n_samples)

    def span_s(self, window: Window, duration_s: float) -> tuple[float, float]:
        """Start and end of a window in seconds; the end is at most `duration_s`, the length of the recording."""
        start, n_real = window
        return start / self.sample_rate_hz, min((start + n_real) / self.sample_rate_hz, duration_s)

    def _padded(self, n_total: int, n_whole: int) -> Window | None:
        """The window after the whole ones, if the rest is long enough."""
        start = n_whole * self.hop
        covered = max(start, start - self.hop + self.n_samples) if n_whole else 0  # a hop may be longer than a window
        wanted = self.min_rest if n_whole else 1
        return Window(start, n_total - start) if n_total - covered >= wanted else None


def recording_rule(segment_s: float, sample_rate_hz: int, hop_s: float = 0.0) -> WindowRule:
    """The rule for recordings.

    Args:
        segment_s: Length of a window in seconds, above 0.
        sample_rate_hz: Rate of the waveforms.
        hop_s: Seconds from one window to the next; 0 = `segment_s`.

    Returns:
        The rule, with times rounded to samples.

    Raises:
        UserError: A time is out of range or shorter than a sample.
    """
    n_samples, hop = (round(seconds * sample_rate_hz) for seconds in (segment_s, hop_s or segment_s))
    if n_samples < 1 or hop < 1:
        raise UserError(
            f"segment_s must be above 0, segment_hop_s 0 or more, and both at least one sample (1/{sample_rate_hz} s). "
            f"Received: {segment_s}, {hop_s}"
        )
    return WindowRule(n_samples, hop, sample_rate_hz)


def overlap_rule(segment_s: float, sample_rate_hz: int, overlap_s: float) -> WindowRule:
    """The rule for recordings whose windows overlap.

    Args:
        segment_s: Length of a window in seconds, above 0.
        sample_rate_hz: Rate of the waveforms.
        overlap_s: Overlap of consecutive windows in seconds, 0 or more and below `segment_s`.

    Returns:
        The rule, with times rounded to samples.

    Raises:
        UserError: The overlap is out of range.

    >>> overlap_rule(5.0, 32_000, 1.0).hop
    128000
    """
    hop = round((segment_s - overlap_s) * sample_rate_hz) if 0 <= overlap_s < segment_s else 0
    if hop < 1:
        raise UserError(
            f"overlap must be 0 or more and below the model's segment of {segment_s:g} s. Received: {overlap_s:g} s"
        )
    return WindowRule(round(segment_s * sample_rate_hz), hop, sample_rate_hz)


def clip_rule(n_samples: int, sample_rate_hz: int, hop_s: float = 0.0) -> WindowRule:
    """The rule for labeled clips: windows of `n_samples` samples that overlap by half.

    The overlap leaves less padding in the last window of a clip that is slightly longer than one window: windows of
    4 s cover a clip of 6 s without padding, while with a hop of 4 s half of the second window would be zeros.

    Args:
        n_samples: Length of a window in samples.
        sample_rate_hz: Samples per second.
        hop_s: Seconds from one window to the next (`data.clip_hop_s`); at most a window. Default: 0, half a window.

    Returns:
        The rule.
    """
    hop = round(hop_s * sample_rate_hz) if hop_s else n_samples // 2
    return WindowRule(n_samples, min(max(1, hop), n_samples), sample_rate_hz)


def n_samples_of(duration_s: float, sample_rate_hz: int) -> int:
    """Number of samples of a recording at a sample rate, as soxr resamples it: halves are rounded up."""
    return math.floor(duration_s * sample_rate_hz + 0.5 + TOLERANCE_SAMPLES)


def pad_to(waveform: np.ndarray, n_samples: int) -> np.ndarray:
    """Copy of the first `n_samples` of a waveform [n], padded with zeros on the right: [n_samples]."""
    padded = np.zeros(n_samples, waveform.dtype)
    padded[: min(len(waveform), n_samples)] = waveform[:n_samples]
    return padded


def batched(stream: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Collect items in lists of `size`; the last list may be shorter."""
    batch: list[Item] = []
    for item in stream:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
