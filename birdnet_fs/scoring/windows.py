"""Sliding windows over a recording that is streamed: any length, constant memory, times exact to the sample.

Window k starts at sample k * hop. Whole windows are always given. What is left after the last whole
window is zero-padded to one more when it is long enough to be worth a score, else dropped; a recording
shorter than one window is always one padded window.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from birdnet_fs.plumbing.errors import UserError

MIN_REST_S = 1.0  # BirdNET's: a shorter rest is dropped (half a segment for segments below 2 s)


class Window(NamedTuple):
    """One window: its first sample in the recording, how many of its samples are real, float32 [n_samples]."""

    start: int
    n_real: int
    waveform: np.ndarray


def hop_samples(segment_s: float, overlap_s: float, sample_rate_hz: int) -> int:
    """Samples from one window to the next.

    Raises:
        UserError: The overlap is negative or leaves no step.

    >>> hop_samples(5.0, 1.0, 32_000)
    128000
    """
    hop = round((segment_s - overlap_s) * sample_rate_hz) if 0 <= overlap_s < segment_s else 0
    if hop < 1:
        raise UserError(
            f"overlap must be 0 or more and below the model's segment of {segment_s:g} s. Received: {overlap_s:g} s"
        )
    return hop


def min_rest_samples(segment_s: float, sample_rate_hz: int) -> int:
    """Samples that must be left behind the last whole window to be worth one more."""
    return max(1, round(min(MIN_REST_S, segment_s / 2) * sample_rate_hz))


def windows(blocks: Iterable[np.ndarray], *, n_samples: int, hop: int, min_rest: int) -> Iterator[Window]:
    """Cut a stream into windows.

    Args:
        blocks: float32 pieces of the recording in order, of any length; held no longer than needed.
        n_samples: Length of a window.
        hop: Samples from one window to the next, 1..n_samples.
        min_rest: Samples no whole window covers that are worth a padded one, 1 or more.

    Yields:
        Windows in order. A whole one is a view of the stream: read it, do not write to it.

    >>> [tuple(w[:2]) for w in windows([np.ones(10, np.float32)], n_samples=4, hop=3, min_rest=1)]
    [(0, 4), (3, 4), (6, 4)]
    """
    held = np.empty(0, np.float32)
    first = start = 0  # sample numbers of held[0] and of the next window
    for block in blocks:
        held = np.concatenate([held, np.asarray(block, np.float32)])
        while start + n_samples <= first + len(held):
            yield Window(start, n_samples, held[start - first : start - first + n_samples])
            start += hop
        gone = min(start - first, len(held))
        held, first = held[gone:], first + gone
    rest = first + len(held) - (start - hop + n_samples if start else 0)
    if rest >= (min_rest if start else 1):
        last = np.zeros(n_samples, np.float32)
        real = held[start - first :]
        last[: len(real)] = real
        yield Window(start, len(real), last)


def batched(stream: Iterable[Window], size: int) -> Iterator[list[Window]]:
    """Lists of `size` windows; the last may be shorter."""
    batch: list[Window] = []
    for window in stream:
        batch.append(window)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
