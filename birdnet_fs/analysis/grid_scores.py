"""Scores of a recording on a grid of rows of equal length, whatever the window of the model is.

Competitions ask for a row every 5 s, while a network may read 3 s, 5 s or 20 s. The score of a row is the mean over the
windows that share time with it, each weighted by the time that it shares. This is one rule for

- a window as long as a row, and a hop of one row: the score of that window;
- a hop of half a row: the window of the row counts 1/2 and its neighbors 1/4 each ("shift by half and average"; second
  place of BirdCLEF 2025: .91 -> .922, with pseudo-labels);
- windows longer than a row (20 s on rows of 5 s, hop 5 s): the mean of the windows that cover the row;
- windows shorter than a row (3 s on rows of 5 s): the mean of those in the row.
"""

import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdnet_fs.analysis.scoring.recordings import WholeRecording, all_scores, score_recordings, whole, why_not
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.windows import WindowRule, recording_rule
from birdnet_fs.inference.engine import Engine


@dataclass(frozen=True, eq=False)
class GridScores:
    """Scores of the rows of one recording.

    Attributes:
        starts_s: float64 [n_rows], start of each row in seconds: 0, grid_s, 2 grid_s, ...
        ends_s: float64 [n_rows], start + grid_s, also where the recording ends earlier.
        scores: float32 [n_rows, n_classes], probabilities in 0..1 (for an ensemble that combines ranks: positions).
        duration_s: Length of the recording in seconds.
        status: "ok", or "partial" for a recording of which a part could not be decoded.
        reason: Reason for a partial recording; "" otherwise.
    """

    starts_s: np.ndarray
    ends_s: np.ndarray
    scores: np.ndarray
    duration_s: float
    status: str = "ok"
    reason: str = ""

    def __len__(self) -> int:
        return len(self.ends_s)


def grid_rule(engine: Engine, grid_s: float, hop_s: float = 0.0) -> WindowRule:
    """The windows that are scored for a grid.

    Args:
        engine: The model.
        grid_s: Length of a row in seconds, above 0.
        hop_s: Seconds from one window to the next, at most a window. Default: 0, the longest hop of which a row is a
            multiple and that is no longer than a window: a row for windows of that length or longer.

    Returns:
        The rule by which recordings are cut.

    Raises:
        UserError: A length is not above 0, or the hop is longer than a window.
    """
    if not 0 < grid_s < math.inf:
        raise UserError(f"grid_s must be above 0. Received: {grid_s}")
    hop_s = hop_s or grid_s / math.ceil(round(grid_s / engine.segment_s, 6))
    if not 0 < hop_s <= engine.segment_s:
        raise UserError(
            f"hop_s must be above 0 and at most the model's window of {engine.segment_s:g} s. Received: {hop_s:g}"
        )
    return recording_rule(engine.segment_s, engine.sample_rate_hz, hop_s)


def grid_scores(
    engine: Engine, recording: Path | str, grid_s: float = 5.0, *, hop_s: float = 0.0, batch_size: int = 32
) -> GridScores:
    """Score a recording on a grid.

    Args:
        engine: The model, from `open_engine`.
        recording: The recording, of any sample rate.
        grid_s: Length of a row in seconds, above 0. Default: 5.
        hop_s: Seconds from one window to the next, at most a window. Default: 0, as in `grid_rule`.
        batch_size: Windows per call of the model, 1 or more. Default: 32.

    Returns:
        A row for each whole `grid_s` of the recording, and one for a rest of at least min(1 s, half a row). A recording
        shorter than a row has one.

    Raises:
        UserError: The recording cannot be decoded or holds no audio, or a length is out of its range.
    """
    [(_, found)] = grid_scores_of(engine, [Path(recording)], grid_s, hop_s=hop_s, batch_size=batch_size)
    if isinstance(found, GridScores):
        return found
    raise UserError(f"{escaped(recording)} cannot be scored: {found.rstrip('.')}.")


def grid_scores_of(
    engine: Engine,
    recordings: Iterable[Path],
    grid_s: float = 5.0,
    *,
    hop_s: float = 0.0,
    batch_size: int = 32,
    n_workers: int = 1,
) -> Generator[tuple[Path, GridScores | str], None, None]:
    """Score recordings on a grid, on several threads; a broken recording does not end the others.

    Args:
        engine: The model, opened with the threads of one worker.
        recordings: The recordings; the next ones are asked for while earlier ones are scored.
        grid_s: Length of a row in seconds, above 0. Default: 5.
        hop_s: Seconds from one window to the next, at most a window. Default: 0, the longest hop of which a row is a
            multiple (`grid_rule`).
        batch_size: Windows per call of the model, 1 or more. Default: 32.
        n_workers: Number of threads, 1 or more; scores do not depend on it. Default: 1.

    Yields:
        Each recording, in order, with its scores, or with the reason why it has none.

    Raises:
        UserError: A length is out of its range.
    """
    rule = grid_rule(engine, grid_s, hop_s)
    for done in score_recordings(engine, recordings, rule, whole, batch_size=batch_size, n_workers=n_workers):
        yield done.recording, why_not(done.error) if done.error else _on_grid(done, len(engine.classes), grid_s)


def _on_grid(scored: WholeRecording, n_classes: int, grid_s: float) -> GridScores:
    stream = scored.stream
    starts = row_starts(stream.duration_s, grid_s, scored.rule.sample_rate_hz)
    found = average_on_grid(all_scores(scored, n_classes), scored.spans_s, starts, grid_s)
    return GridScores(starts, starts + grid_s, found, stream.duration_s, stream.status, stream.reason)


def row_starts(duration_s: float, grid_s: float, sample_rate_hz: int) -> np.ndarray:
    """Starts of the rows of a recording.

    Args:
        duration_s: Length of the recording in seconds, above 0.
        grid_s: Length of a row in seconds.
        sample_rate_hz: Samples per second, to whose samples lengths are rounded.

    Returns:
        float64 [n_rows] in seconds, one row or more.

    >>> row_starts(11.2, 5.0, 32_000).tolist()
    [0.0, 5.0, 10.0]
    """
    rule = recording_rule(grid_s, sample_rate_hz)
    return np.arange(len(rule.windows(max(1, round(duration_s * sample_rate_hz))))) * grid_s


def average_on_grid(scores: np.ndarray, spans_s: np.ndarray, starts_s: np.ndarray, grid_s: float) -> np.ndarray:
    """Mean scores of rows over the windows that share time with them, weighted by that time.

    Args:
        scores: float [n_windows, n_classes], one window or more.
        spans_s: [n_windows, 2], start and end of each window in seconds, both ascending.
        starts_s: [n_rows], start of each row in seconds.
        grid_s: Length of a row in seconds.

    Returns:
        float32 [n_rows, n_classes]; a row that no window touches has the scores of the nearest window.

    >>> halves = np.array([[0.0, 5.0], [2.5, 7.5], [5.0, 10.0]])
    >>> average_on_grid(np.array([[0.0], [0.75], [0.0]]), halves, np.array([0.0, 5.0]), 5.0).ravel().tolist()
    [0.25, 0.25]
    """
    found = np.empty((len(starts_s), scores.shape[1]), np.float32)
    windows_start, windows_end = np.asarray(spans_s, np.float64).T
    for row, start in zip(found, starts_s, strict=True):
        first = np.searchsorted(windows_end, start, side="right")
        last = np.searchsorted(windows_start, start + grid_s, side="left")
        shared = np.minimum(windows_end[first:last], start + grid_s) - np.maximum(windows_start[first:last], start)
        if first < last and shared.sum() > 0:
            row[:] = (shared / shared.sum()) @ scores[first:last].astype(np.float64)
        else:
            row[:] = scores[np.abs((windows_start + windows_end) / 2 - (start + grid_s / 2)).argmin()]
    return found
