"""Analysis of any number of recordings: one table per recording and output format, and a ledger of all recordings.

Every recording has one row in `ledger.csv`. A broken recording is quarantined with its reason; it neither stops the
others nor changes their tables, because a batch of windows never mixes two recordings. Tables are written atomically, a
finished recording is not analyzed again, and tables that a person has edited are kept (output.py).
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from birdnet_fs.analysis import table_formats as tables
from birdnet_fs.analysis.combined.options import DEFAULT_TABLES, TableOptions
from birdnet_fs.analysis.combined.write import remove_combined
from birdnet_fs.analysis.decision import Decision, make_decision
from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.inputs import find_recordings
from birdnet_fs.analysis.options import EventOptions, ScoringOptions, check_options
from birdnet_fs.analysis.output import OutputFolder, Place
from birdnet_fs.analysis.resume import Outcome, settings_key
from birdnet_fs.analysis.scoring.recording_detections import detections_of_recordings, quarantined
from birdnet_fs.analysis.scoring.recordings import why_not
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.inference.engine import Engine
from birdnet_fs.runs.folder_kind import refuse_other_results

if TYPE_CHECKING:
    from birdnet_fs.motifs.no_call.gate import Gate

_PROGRESS_EVERY_S = 10.0
T = TypeVar("T")


@dataclass(frozen=True)
class _Batch:
    """Arguments that are the same for all recordings of a call."""

    engine: Engine
    root: Path
    options: ScoringOptions
    batch_size: int
    n_workers: int
    gate: "Gate | None"
    decision: Decision


def analysis_settings(
    engine: Engine, options: ScoringOptions, decision: Decision, gate: "Gate | None" = None
) -> dict[str, Any]:
    """Everything but the recordings that the tables of an analysis depend on, for `settings_key`.

    Args:
        engine: The model.
        options: Options, from `check_options`.
        decision: Post-processing and thresholds.
        gate: No-call gate. Default: None.

    Returns:
        Settings as JSON values.
    """
    return {
        "model": engine.identity,
        "classes": list(engine.classes),
        "choice": asdict(options),
        **({"gate": [gate.identity, gate.threshold]} if gate else {}),
        **decision.settings(),
    }


@locked("output")
def analyze(
    engine: Engine,
    inputs: Sequence[Path | str],
    output: Path | str,
    *,
    formats: Sequence[str] = ("csv",),
    min_confidence: float | None = None,
    overlap_s: float = 0.0,
    grid_s: float = 0.0,
    events: EventOptions | None = None,
    batch_size: int = 32,
    n_workers: int = 1,
    top_n: int = 0,
    merge_consecutive: int = 1,
    species: Collection[str] = (),
    gate: "Gate | None" = None,
    precision: float | None = None,
    post: str | None = None,
    table_options: TableOptions | None = None,
    overwrite: bool = False,
) -> Ledger:
    """Score recordings and write their tables.

    Args:
        engine: Model, from `open_engine`.
        inputs: Audio files, and folders that are searched recursively.
        output: Folder for the tables (in the sub-folders of the inputs) and `ledger.csv`.
        formats: Keys of `table_formats.FORMATS`. Default: "csv".
        min_confidence: Lowest probability that is written, 0..1. Default: 0.25, or 0 when `top_n` is given.
        overlap_s: Overlap of consecutive windows in seconds, 0 or more and below the segment length. Default: 0.
        grid_s: Length in seconds of rows, each with the mean scores of the windows that share time with it
            (grid_scores.py): detections are of rows. Default: 0, they are of windows.
        events: Detections are events with onset and offset, from the frames of a run with the head "sed". Default:
            None, they are of windows.
        batch_size: Windows per call of the model, 1 or more; affects speed and memory only. Default: 32.
        n_workers: Threads that decode and score, 1 or more; the tables do not depend on it. With more than one, open
            the engine with one thread. Default: 1.
        top_n: Highest number of classes per window; 0 (default) = no limit.
        merge_consecutive: Highest number of consecutive windows of a class that are merged to one detection, with the
            highest of their confidences; 1 (default) = none, 0 = no limit.
        species: Class names or scientific names that are written. Default: all.
        gate: No-call gate, from `open_gate`; windows in which a call is less probable than its threshold give no
            detections. Default: None, every window is scored.
        precision: Wanted precision, one of those for which the calibration of the model has thresholds (birdnet-fs
            calibrate), which replace `min_confidence`. Default: None.
        post: Post-processing of the scores of each recording (postprocessing/chain.py). Default: None: with a precision
            that of the calibration, else none.
        table_options: Tables over all recordings, and the style of tables. Default: None, those of `TableOptions`.
        overwrite: Whether to analyze recordings again that were finished with the same model and settings, and to
            replace tables that were edited, or are of another recording or program. Default: False.

    Returns:
        The ledger, which is also written to `output/ledger.csv`, even after an interrupt, followed there by the rows of
        earlier recordings. The flag `table_not_replaced` marks recordings whose tables were not written, because a
        table that was edited or that another program wrote is in the way.

    Raises:
        UserError: An argument is out of range, an input does not exist, no recording was found, the output cannot be
            written, holds tables of other recordings of the same names, or another process writes it. A broken
            recording raises no error.
    """
    names = tables.check_formats(formats)
    options = check_options(
        engine,
        min_confidence=min_confidence,
        overlap_s=overlap_s,
        top_n=top_n,
        merge_consecutive=merge_consecutive,
        species=species,
        grid_s=grid_s,
        events=events,
    )
    for name, value in (("batch_size", batch_size), ("n_workers", n_workers)):
        if value < 1:
            raise UserError(f"{name} must be 1 or more. Received: {value}")
    if precision is not None and (grid_s or events):
        raise UserError("Thresholds for a precision are for windows; leave out the grid and events.")
    if post and events:
        raise UserError("Post-processing is for the scores of windows; leave out events.")
    hop_s = options.rule.hop / engine.sample_rate_hz
    decision = make_decision(engine, precision=precision, post=post, min_confidence=min_confidence, hop_s=hop_s)
    root, recordings, refused = find_recordings(inputs)
    batch = _Batch(engine, root, options, batch_size, n_workers, gate, decision)
    key = settings_key(analysis_settings(engine, options, decision, gate))
    folder = OutputFolder(Path(output), root, names, key, overwrite, table_options or DEFAULT_TABLES)
    refuse_other_results(folder.folder, "an analysis")
    say(f"analyze: {len(recordings)} recordings by {engine.runtime or 'the model'}, {n_workers} at a time")
    progress = Progress(len(recordings))
    return write_tables(
        folder, folder.places(recordings), lambda places: _score(batch, places, progress), progress, refused
    )


def write_tables(
    folder: OutputFolder,
    places: Sequence[Place],
    score: Callable[[Iterator[Place]], Iterator[tuple[Place, RecordingDetections | None, Outcome]]],
    progress: "Progress",
    refused: Sequence[tuple[Path, str]] = (),
) -> Ledger:
    """Score recordings that are not finished, and write their tables and the ledger.

    Args:
        folder: The output folder.
        places: Places of the recordings in it.
        score: Function from places to each of them, in order, with its detections (None for a recording that cannot be
            used) and its outcome.
        progress: Counter of recordings and detections.
        refused: (path, reason) of what cannot be read, for the ledger. Default: ().

    Returns:
        The ledger, as `analyze` returns it.

    Raises:
        UserError: The output cannot be written.
    """
    _write(lambda: folder.folder.mkdir(parents=True, exist_ok=True), folder.folder)
    remove_combined(folder.folder, overwrite=folder.overwrite)
    outcomes: dict[Path, Outcome] = {}

    def done(place: Place, outcome: Outcome) -> None:
        outcomes[place.recording] = outcome
        progress.recording(outcome.n_detections)

    def unfinished() -> Iterator[Place]:
        for place in places:
            if place.problem:
                done(place, quarantined(place.problem))
            elif found := folder.finished(place):
                done(place, found)
            else:
                yield place

    try:
        for place, scored, outcome in score(unfinished()):
            if scored is None:
                done(place, outcome)
            else:
                done(place, _write(partial(folder.write, place, scored, outcome), folder.folder))
    finally:
        ledger = Ledger()
        for path, reason in refused:
            ledger.add(path, "quarantined", reason)
        for place in places:
            if place.recording in outcomes:
                found = outcomes[place.recording]
                ledger.add(place.recording, found.status, found.reason, found.flags, found.duration_s)
        _write(lambda: folder.write_ledger(ledger), folder.folder)
    _write(lambda: folder.write_combined(places, ledger), folder.folder)
    progress.line()
    folder.report(places)
    return ledger


def one_by_one(
    score: Callable[[Path], tuple[RecordingDetections, Outcome]], places: Iterator[Place]
) -> Iterator[tuple[Place, RecordingDetections | None, Outcome]]:
    """Score recordings one after another, for `write_tables`.

    Args:
        score: Function from a recording to its detections and outcome; raises a UserError or OSError where the
            recording cannot be used.
        places: Places of the recordings.

    Yields:
        As `write_tables` expects.
    """
    for place in places:
        try:
            yield place, *score(place.recording)
        except (UserError, OSError) as error:
            yield place, None, quarantined(why_not(error))


def _score(
    batch: _Batch, places: Iterator[Place], progress: "Progress"
) -> Iterator[tuple[Place, RecordingDetections | None, Outcome]]:
    """Detections and outcomes of recordings, with their places."""
    begun: deque[Place] = deque()  # in the order in which recordings are done

    def recordings() -> Iterator[Path]:
        for place in places:
            begun.append(place)
            yield place.recording

    frontend, root = batch.engine.frontend, batch.root.absolute()
    for found in detections_of_recordings(
        batch.engine,
        batch.options,
        recordings(),
        batch_size=batch.batch_size,
        n_workers=batch.n_workers,
        gate=batch.gate,
        decision=batch.decision,
        count=progress.audio,
    ):
        place, scored = begun.popleft(), None
        if found.outcome.status != "quarantined":
            of_input = (place.recording.absolute(), root, frontend.fmin_hz, frontend.fmax_hz)
            scored = RecordingDetections(*of_input, found.detections, found.window_s, found.hop_s, found.n_windows)
        yield place, scored, found.outcome


def _write(action: Callable[[], T], output: Path) -> T:
    try:
        return action()
    except OSError as error:
        raise UserError(
            f"Results cannot be written to {output} ({error.strerror or error}); free disk space or choose another "
            "output folder and run again. Finished recordings are kept."
        ) from None


class Progress:
    """Lines on stderr with the recordings done, the hours of audio and the speed in multiples of real time."""

    def __init__(self, total: int) -> None:
        self.total, self.count, self.audio_s, self.detections = total, 0, 0.0, 0
        self.start = self.shown = time.monotonic()

    def audio(self, seconds: float) -> None:
        """Count scored audio."""
        self.audio_s += seconds
        self._maybe_line()

    def recording(self, n_detections: int) -> None:
        """Count a finished recording and its detections."""
        self.count += 1
        self.detections += n_detections
        self._maybe_line()

    def line(self) -> None:
        """Write one line."""
        speed = self.audio_s / max(time.monotonic() - self.start, 1e-9)
        scored = f", {self.audio_s / 3600:.2f} h of audio scored, {speed:.0f} x real time" if self.audio_s else ""
        say(f"analyze: {self.count}/{self.total} recordings, {self.detections} detections{scored}")

    def _maybe_line(self) -> None:
        if self.count < self.total and time.monotonic() - self.shown >= _PROGRESS_EVERY_S:
            self.shown = time.monotonic()
            self.line()
