"""Detections of recordings: scores of windows, or of the rows of a grid, picked and merged."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis.decision import NO_DECISION, Decision
from birdnet_fs.analysis.detections import Detection, WindowDetection, merge_detections, pick_detections
from birdnet_fs.analysis.grid_scores import average_on_grid, row_starts
from birdnet_fs.analysis.options import ScoringOptions
from birdnet_fs.analysis.postprocessing.chain import Windows
from birdnet_fs.analysis.resume import Outcome
from birdnet_fs.analysis.scoring.frame_events import frame_events, frames_in_order
from birdnet_fs.analysis.scoring.recordings import WholeRecording, all_scores, score_recordings, whole, why_not
from birdnet_fs.inference.engine import Engine

if TYPE_CHECKING:
    from birdnet_fs.motifs.no_call.gate import Gate


class Detected(NamedTuple):
    """Outcome and detections of a recording.

    Attributes:
        outcome: Outcome of the recording; status "quarantined" where it cannot be used.
        detections: Detections by onset, then by descending confidence.
        window_s: Length of the windows, or of the rows of a grid, in seconds.
        hop_s: Seconds from one to the next.
        n_windows: Number of them.
    """

    outcome: Outcome
    detections: tuple[Detection, ...] = ()
    window_s: float = 0.0
    hop_s: float = 0.0
    n_windows: int = 0


def pick_windows(scores: np.ndarray, options: ScoringOptions, decision: Decision) -> list[WindowDetection]:
    """The detections of windows by the options and the thresholds of an analysis.

    Args:
        scores: float32 [n_windows, n_classes], probabilities in 0..1 after post-processing.
        options: Classes, highest number of them per window, and lowest confidence.
        decision: Thresholds of the classes, which replace the lowest confidence where there are any.

    Returns:
        Detections of one window each, in the order of `pick_detections`.
    """
    return pick_detections(
        scores,
        min_confidence=options.min_confidence if decision.thresholds is None else decision.thresholds,
        top_n=options.top_n,
        allowed=options.allowed,
        no_call=options.no_call,
    )


def merge_windows(
    found: Sequence[WindowDetection], spans_s: NDArray[np.float64], classes: Sequence[str], limit: int
) -> tuple[Detection, ...]:
    """Merge the detections of windows (`merge_detections`), and give them times and class names.

    Args:
        found: Detections of one window each, in the order of the windows.
        spans_s: [n_windows, 2], start and end of each window in seconds.
        classes: Class names in model order.
        limit: Highest number of windows in a merged detection; 1 = no merging, 0 = no limit.

    Returns:
        Detections by onset, then by descending confidence.
    """
    return tuple(
        Detection(
            float(spans_s[each.first, 0]), float(spans_s[each.last, 1]), classes[each.class_index], each.confidence
        )
        for each in merge_detections(found, limit)
    )


def detections_of_recordings(
    engine: Engine,
    options: ScoringOptions,
    recordings: Iterable[Path],
    *,
    batch_size: int,
    n_workers: int,
    gate: "Gate | None" = None,
    decision: Decision = NO_DECISION,
    count: Callable[[float], None],
) -> Iterator[Detected]:
    """Score recordings and pick what is detected in them.

    What is detected in a window is picked when the window is scored, so that recordings of any length need constant
    memory. Options for which all scores of a recording are needed (a grid, events, post-processing) keep 4 bytes for
    each window or frame and class.

    Args:
        engine: The model.
        options: Cutting rule, classes and lowest confidence, from `check_options`.
        recordings: The recordings; the next ones are asked for while earlier ones are scored.
        batch_size: Windows of a batch, 1 or more.
        n_workers: Threads, 1 or more.
        gate: No-call gate, from `open_gate`; windows that it holds back give no detections, and count as 0 in a grid,
            in events and in post-processing. Default: None, all windows are scored.
        decision: Post-processing, and thresholds of the classes instead of that of the options. Default: neither.
        count: Called with the seconds of every batch that is done.

    Yields:
        What was detected in each recording, in order.
    """

    def pick(scores: np.ndarray, numbers: NDArray[np.intp]) -> list[WindowDetection]:
        picked = pick_windows(scores, options, decision)
        return [each._replace(first=int(numbers[each.first]), last=int(numbers[each.last])) for each in picked]

    keeps_all = bool(options.grid_s or options.event_low or decision.chain.steps)
    reduce: Callable[[np.ndarray, NDArray[np.intp]], Any] = whole if keeps_all else pick
    for done in score_recordings(
        engine,
        recordings,
        options.rule,
        reduce,
        batch_size=batch_size,
        n_workers=n_workers,
        gate=gate,
        count=lambda n_windows: count(n_windows * options.rule.hop / engine.sample_rate_hz),
        frames=options.event_low > 0,
    ):
        if done.error is not None:
            yield Detected(quarantined(why_not(done.error)))
            continue
        spans, stream = done.spans_s, done.stream
        window_s, hop_s = options.rule.n_samples / engine.sample_rate_hz, options.rule.hop / engine.sample_rate_hz
        if options.event_low:
            found, spans, window_s = _events(done, options, engine)
            hop_s = window_s
        elif keeps_all:
            scores = decision.chain(all_scores(done, len(engine.classes)), Windows(done.recording, spans[:, 0]))
            if options.grid_s:
                starts = row_starts(stream.duration_s, options.grid_s, engine.sample_rate_hz)
                scores = average_on_grid(scores, spans, starts, options.grid_s)
                spans = np.stack([starts, np.minimum(starts + options.grid_s, stream.duration_s)], axis=1)
                window_s = hop_s = options.grid_s
            found = pick_windows(scores, options, decision)
        else:
            found = [each for picked in done.results for each in picked]
        detections = merge_windows(found, spans, engine.classes, options.merge_consecutive)
        flags, duration_s = tuple(stream.flags), float(stream.duration_s)
        outcome = Outcome(stream.status, stream.reason, flags, duration_s, len(detections))
        yield Detected(outcome, detections, window_s, hop_s, len(spans))


def _events(
    done: WholeRecording, options: ScoringOptions, engine: Engine
) -> tuple[list[WindowDetection], NDArray[np.float64], float]:
    """Events of a recording, the spans of its frames in seconds, and the length of a frame."""
    duration_s = done.stream.duration_s
    scores = all_scores(done, len(engine.classes))
    scores = scores[:, None] if scores.ndim == 2 else scores  # a gate held all windows back
    frames, step_s = frames_in_order(scores, done.spans_s[:, 0], engine.segment_s, duration_s)
    median = 2 * (round(options.event_median_s / step_s) // 2) + 1
    wanted = sorted({*options.allowed} - {*options.no_call})
    limits = {"high": options.min_confidence, "low": options.event_low}
    found = [WindowDetection(*each) for each in frame_events(frames, classes=wanted, median=median, **limits)]
    starts = np.arange(len(frames)) * step_s
    return found, np.stack([starts, np.minimum(starts + step_s, duration_s)], axis=1), step_s


def quarantined(reason: str) -> Outcome:
    """The outcome of a recording that cannot be used, with the reason."""
    return Outcome("quarantined", reason, (), 0.0, 0)
