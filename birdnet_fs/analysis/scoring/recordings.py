"""Scores of the windows of recordings: each is decoded, cut by one rule and scored batch by batch."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis.gating import Gating
from birdnet_fs.analysis.scoring.pipeline import Job, run_jobs
from birdnet_fs.audio.read import stream_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.windows import Window, WindowRule, batched
from birdnet_fs.inference.engine import Engine

if TYPE_CHECKING:
    from birdnet_fs.motifs.no_call.gate import Gate

Kept = TypeVar("Kept")


class WindowBatch(NamedTuple):
    """Decoded windows of one recording.

    Attributes:
        waveforms: float32 [n_passed, n_samples], those that pass the gate; all without a gate.
        numbers: int [n_passed], their numbers among the windows of the recording.
        n_windows: Number of windows, those that the gate holds back included.
    """

    waveforms: NDArray[np.float32]
    numbers: NDArray[np.intp]
    n_windows: int


class ScoredRecording(Job[WindowBatch, Kept]):
    """A recording; its `results` are what was kept of each batch.

    Args:
        recording: The recording.
        rule: Rule by which it is cut into windows.
        batch_size: Windows of a batch, 1 or more.
        gate: No-call gate. Default: None, every window is scored.

    Attributes:
        windows: Places of the windows, in order; complete when the job is done.
        stream: Decoder of the recording; its status, flags, reason and length are final when the job is done.
    """

    def __init__(self, recording: Path, rule: WindowRule, batch_size: int, gate: "Gate | None" = None) -> None:
        super().__init__(self._decode())
        self.recording, self.rule, self.windows = recording, rule, list[Window]()
        self.stream = stream_audio(recording, sample_rate_hz=rule.sample_rate_hz)
        self._batch_size, self._gate = batch_size, gate

    @property
    def spans_s(self) -> NDArray[np.float64]:
        """Start and end of each window in seconds, [n_windows, 2]; no end is later than that of the recording."""
        spans = [self.rule.span_s(window, self.stream.duration_s) for window in self.windows]
        return np.array(spans, np.float64).reshape(-1, 2)

    def _decode(self) -> Generator[WindowBatch, None, None]:
        gating = Gating(self._gate, self.recording, self.rule, self._batch_size) if self._gate else None
        for group in batched(self.rule.stream(self.stream), self._batch_size):
            first, windows = len(self.windows), [window for window, _ in group]
            self.windows += windows
            passed = np.ones(len(group), bool) if gating is None else gating.passes(windows)
            waveforms = np.stack([waveform for _, waveform in group])
            yield WindowBatch(waveforms if passed.all() else waveforms[passed], first + passed.nonzero()[0], len(group))
        if self.stream.status == "quarantined" or not self.windows:
            raise UserError(self.stream.reason or "the recording holds no audio")


def score_recordings(
    engine: Engine,
    recordings: Iterable[Path],
    rule: WindowRule,
    reduce: Callable[[np.ndarray, NDArray[np.intp]], Kept],
    *,
    batch_size: int = 32,
    n_workers: int = 1,
    gate: "Gate | None" = None,
    count: Callable[[int], None] | None = None,
    frames: bool = False,
) -> Iterator[ScoredRecording[Kept]]:
    """Score recordings.

    Args:
        engine: The model; called by several threads at once.
        recordings: The recordings; the next ones are asked for while earlier ones are scored.
        rule: Rule by which they are cut into windows.
        reduce: Function of a batch whose value is kept: probabilities float32 [n, n_classes], or of frames [n, n_steps,
            n_classes], and numbers of the windows int [n]; where the gate holds all windows back, [0, n_classes] and
            [0]. Called by several threads at once.
        batch_size: Windows of a batch, 1 or more. Default: 32.
        n_workers: Number of threads, 1 or more; results do not depend on it. Default: 1.
        gate: No-call gate; windows that it holds back are not scored. Default: None.
        count: Called with the number of windows of every batch that is done, by one thread at a time. Default: None.
        frames: Whether frames are scored instead of windows. Default: False.

    Yields:
        The recordings in order, each done; `error` is the reason for one that cannot be used.
    """
    lock = threading.Lock()

    def score(batch: WindowBatch) -> Kept:
        scores = np.zeros((0, len(engine.classes)), np.float32)
        if len(batch.waveforms):
            one = partial(engine.probabilities, batch_size=batch_size)
            scores = (engine.frame_probabilities if frames else one)(batch.waveforms)
        kept = reduce(scores, batch.numbers)
        if count is not None:
            with lock:
                count(batch.n_windows)
        return kept

    jobs = (ScoredRecording[Kept](recording, rule, batch_size, gate) for recording in recordings)
    yield from run_jobs(jobs, score, n_workers=n_workers)


WholeRecording = ScoredRecording[tuple[np.ndarray, NDArray[np.intp]]]


def whole(scores: np.ndarray, numbers: NDArray[np.intp]) -> tuple[np.ndarray, NDArray[np.intp]]:
    """A `reduce` of `score_recordings` that keeps all scores [n, n_classes] and numbers [n], for `all_scores`."""
    return scores, numbers


def all_scores(scored: WholeRecording, n_classes: int) -> NDArray[np.float32]:
    """The scores of all windows of a recording that was scored with `whole`.

    Args:
        scored: The recording, without an error.
        n_classes: Number of classes.

    Returns:
        float32 [n_windows, n_classes], or [n_windows, n_steps, n_classes] of frames; 0 for windows that a gate held
        back.
    """
    kept = [(scores, numbers) for scores, numbers in scored.results if len(scores)]  # others have no axis of frames
    found = np.zeros((len(scored.windows), *(kept[0][0].shape[1:] if kept else (n_classes,))), np.float32)
    for scores, numbers in kept:
        found[numbers] = scores
    return found


def why_not(error: UserError | OSError) -> str:
    """Reason for a recording without scores, from the error that ended it."""
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    return getattr(error, "reason", "") or str(error)
