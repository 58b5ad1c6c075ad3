"""Analysis of any number of recordings: one table per recording and output format, and a ledger of all recordings.

Every recording has one row in `ledger.csv`. A broken recording is quarantined with its reason; it neither stops the
others nor changes their tables, because a batch of windows never mixes two recordings. Tables are written atomically, a
finished recording is not analyzed again, and tables that a person has edited are kept (output.py).
"""

import hashlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from birdnet_fs.analysis import table_formats as tables
from birdnet_fs.analysis.combined.options import DEFAULT_TABLES, TableOptions
from birdnet_fs.analysis.combined.write import remove_combined
from birdnet_fs.analysis.detections import (
    Detection,
    RecordingDetections,
    WindowDetection,
    merge_detections,
    pick_detections,
)
from birdnet_fs.analysis.gating import Gating
from birdnet_fs.analysis.inputs import find_recordings
from birdnet_fs.analysis.options import ScoringOptions, check_options
from birdnet_fs.analysis.output import OutputFolder, Place
from birdnet_fs.analysis.resume import Outcome, settings_key
from birdnet_fs.audio import read as audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.windows import Window, batched
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
    gate: "Gate | None"

    def settings(self) -> dict[str, Any]:
        """Everything but the recordings that a table depends on, as JSON."""
        gate = {"gate": [self.gate.identity, self.gate.threshold]} if self.gate else {}
        return {
            "model": self.engine.identity,
            "classes": hashlib.sha256("\n".join(self.engine.classes).encode()).hexdigest(),
            "choice": asdict(self.options),
            **gate,
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
    batch_size: int = 32,
    top_n: int = 0,
    merge_consecutive: int = 1,
    species: Collection[str] = (),
    gate: "Gate | None" = None,
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
        batch_size: Windows per call of the model, 1 or more; affects speed and memory only. Default: 32.
        top_n: Highest number of classes per window; 0 (default) = no limit.
        merge_consecutive: Highest number of consecutive windows of a class that are merged to one detection, with the
            highest of their confidences; 1 (default) = none, 0 = no limit.
        species: Class names or scientific names that are written. Default: all.
        gate: Finds calls, from `open_gate`; windows in which a call is less probable than its threshold give no
            detections. Default: None, every window is scored.
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
    )
    if batch_size < 1:
        raise UserError(f"batch_size must be 1 or more. Received: {batch_size}")
    root, recordings, refused = find_recordings(inputs)
    batch = _Batch(engine, root, options, batch_size, gate)
    key = settings_key(batch.settings())
    folder = OutputFolder(Path(output), root, names, key, overwrite, table_options or DEFAULT_TABLES)
    refuse_other_results(folder.folder, "an analysis")
    progress = Progress(len(recordings))
    return write_tables(
        folder, folder.places(recordings), lambda path: _score(batch, path, progress), progress, refused
    )


def write_tables(
    folder: OutputFolder,
    places: Sequence[Place],
    score: Callable[[Path], tuple[RecordingDetections, Outcome]],
    progress: "Progress",
    refused: Sequence[tuple[Path, str]] = (),
) -> Ledger:
    """Score recordings that are not finished, and write their tables and the ledger.

    Args:
        folder: The output folder.
        places: Places of the recordings in it.
        score: A recording -> its detections and outcome; its UserError says why the recording cannot be used.
        progress: Counts what is done.
        refused: (path, reason) of what cannot be read, for the ledger. Default: ().

    Returns:
        The ledger, as `analyze` returns it.

    Raises:
        UserError: The output cannot be written.
    """
    _write(lambda: folder.folder.mkdir(parents=True, exist_ok=True), folder.folder)
    remove_combined(folder.folder, overwrite=folder.overwrite)
    ledger = Ledger()
    for path, reason in refused:
        ledger.add(path, "quarantined", reason)
    try:
        for place in places:
            done = _one(score, folder, place)
            ledger.add(place.recording, done.status, done.reason, done.flags, done.duration_s)
            progress.recording(done.n_detections)
    finally:
        _write(lambda: folder.write_ledger(ledger), folder.folder)
    _write(lambda: folder.write_combined(places, ledger), folder.folder)
    progress.line()
    folder.report(places)
    return ledger


def _one(score: Callable[[Path], tuple[RecordingDetections, Outcome]], folder: OutputFolder, place: Place) -> Outcome:
    """Analyze one recording, unless it is finished."""
    if place.problem:
        return Outcome("quarantined", place.problem, (), 0.0, 0)
    if found := folder.finished(place):
        return found
    try:
        scored, done = score(place.recording)
    except UserError as error:
        return Outcome("quarantined", getattr(error, "reason", "") or str(error), (), 0.0, 0)
    except OSError as error:
        return Outcome("quarantined", f"cannot be read ({error.strerror or error})", (), 0.0, 0)
    return _write(lambda: folder.write(place, scored, done), folder.folder)


def _score(batch: _Batch, recording: Path, progress: "Progress") -> tuple[RecordingDetections, Outcome]:
    """Stream one recording through the model."""
    engine, options = batch.engine, batch.options
    rate = engine.sample_rate_hz
    stream = audio.stream_audio(recording, sample_rate_hz=rate)
    found: list[WindowDetection] = []
    windows: list[Window] = []
    gating = Gating(batch.gate, recording, options.rule, batch.batch_size) if batch.gate else None
    for group in batched(options.rule.stream(stream), batch.batch_size):
        waveforms = np.stack([waveform for _, waveform in group])
        passed = np.ones(len(group), bool) if gating is None else gating.passes([window for window, _ in group])
        numbers = np.flatnonzero(passed)
        if len(numbers):
            picked = pick_detections(
                engine.probabilities(waveforms[numbers], batch_size=batch.batch_size),
                min_confidence=options.min_confidence,
                top_n=options.top_n,
                allowed=options.allowed,
                no_call=options.no_call,
            )
            places = len(windows) + numbers
            found += [each._replace(first=int(places[each.first]), last=int(places[each.last])) for each in picked]
        windows += [window for window, _ in group]
        progress.audio(len(group) * options.rule.hop / rate)
    if stream.status == "quarantined" or not windows:
        raise UserError(stream.reason or "the recording holds no audio")
    spans = [options.rule.span_s(window, stream.duration_s) for window in windows]
    detections = tuple(
        Detection(spans[each.first][0], spans[each.last][1], engine.classes[each.class_index], each.confidence)
        for each in merge_detections(found, options.merge_consecutive)
    )
    scored = RecordingDetections(
        recording.absolute(),
        batch.root.absolute(),
        engine.frontend.fmin_hz,
        engine.frontend.fmax_hz,
        detections,
        options.rule.n_samples / rate,
        options.rule.hop / rate,
        len(windows),
    )
    done = Outcome(stream.status, stream.reason, tuple(stream.flags), float(stream.duration_s), len(detections))
    return scored, done


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
        spent = max(time.monotonic() - self.start, 1e-9)
        say(
            f"analyze: {self.count}/{self.total} recordings, {self.detections} detections, "
            f"{self.audio_s / 3600:.2f} h of audio scored, {self.audio_s / spent:.0f} x real time"
        )

    def _maybe_line(self) -> None:
        if self.count < self.total and time.monotonic() - self.shown >= _PROGRESS_EVERY_S:
            self.shown = time.monotonic()
            self.line()
