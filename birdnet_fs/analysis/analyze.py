"""Analysis of any number of recordings: one table per recording and output format, and a ledger of all recordings.

Every recording has one row in `ledger.csv`. A broken recording is quarantined with its reason; it neither stops the
others nor changes their tables, because a batch of windows never mixes two recordings. Tables are written atomically,
and a finished recording is not analyzed again (resume.py).
"""

import hashlib
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.analysis import resume
from birdnet_fs.analysis import table_formats as tables
from birdnet_fs.analysis.detections import (
    Detection,
    RecordingDetections,
    WindowDetection,
    merge_detections,
    pick_detections,
)
from birdnet_fs.analysis.inputs import find_recordings, table_stems
from birdnet_fs.analysis.options import ScoringOptions, check_options
from birdnet_fs.audio import read as audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_text
from birdnet_fs.core.progress import say
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.windows import Window, batched
from birdnet_fs.inference.engine import Engine

LEDGER = "ledger.csv"
_PROGRESS_EVERY_S = 10.0


@dataclass(frozen=True)
class _Batch:
    """Arguments that are the same for all recordings of a call."""

    engine: Engine
    root: Path
    output: Path
    formats: tuple[str, ...]
    options: ScoringOptions
    batch_size: int
    overwrite: bool

    def settings(self) -> dict[str, Any]:
        """Everything but the recording that a table depends on, as JSON; part of the key of a stamp."""
        return {
            "format": 1,
            "model": self.engine.identity,
            "classes": hashlib.sha256("\n".join(self.engine.classes).encode()).hexdigest(),
            "root": os.fsencode(self.root).hex(),
            "formats": sorted(self.formats),
            "choice": asdict(self.options),
        }


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
        overwrite: Whether to analyze recordings again that were finished with the same model and settings.

    Returns:
        The ledger, which is also written to `output/ledger.csv`, even after an interrupt.

    Raises:
        UserError: An argument is out of range, an input does not exist, no recording was found, or the output cannot
            be written. A broken recording raises no error.
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
    batch = _Batch(engine, root, Path(output), names, options, batch_size, overwrite)
    stems = table_stems(recordings, root)
    _write(lambda: batch.output.mkdir(parents=True, exist_ok=True), batch.output)
    ledger = Ledger()
    for path, reason in refused:
        ledger.add(path, "quarantined", reason)
    progress = _Progress(len(recordings))
    try:
        for recording in recordings:
            done = _one(batch, recording, stems[recording], progress)
            ledger.add(recording, done.status, reason=done.reason, flags=done.flags, duration_s=done.duration_s)
            progress.recording(done.n_detections)
    finally:
        _write(lambda: ledger.write(batch.output / LEDGER), batch.output)
    progress.line()
    return ledger


def _one(batch: _Batch, recording: Path, stem: str, progress: "_Progress") -> resume.Stamp:
    """Analyze one recording, unless its stamp shows that it is finished."""
    relative = recording.relative_to(batch.root)
    files = [batch.output / relative.parent / (stem + tables.FORMATS[name].suffix) for name in batch.formats]
    place = resume.stamp_path(batch.output, relative)
    try:
        key = resume.stamp_key(recording, batch.settings())
        found = None if batch.overwrite else resume.read_stamp(place, key, files)
        if found:
            return found
        scored, done = _score(batch, recording, progress)
    except UserError as error:
        return resume.Stamp("quarantined", getattr(error, "reason", "") or str(error), (), 0.0, 0)
    except OSError as error:
        return resume.Stamp("quarantined", f"cannot be read ({error.strerror or error})", (), 0.0, 0)

    def write() -> None:
        place.unlink(missing_ok=True)  # no stamp may exist while its tables are incomplete
        for file, name in zip(files, batch.formats, strict=True):
            write_text(file, tables.FORMATS[name].render(scored))
        resume.write_stamp(place, key, done)

    _write(write, batch.output)
    return done


def _score(batch: _Batch, recording: Path, progress: "_Progress") -> tuple[RecordingDetections, resume.Stamp]:
    """Stream one recording through the model."""
    engine, options = batch.engine, batch.options
    rate = engine.sample_rate_hz
    stream = audio.stream_audio(recording, sample_rate_hz=rate)
    found: list[WindowDetection] = []
    windows: list[Window] = []
    for group in batched(options.rule.stream(stream), batch.batch_size):
        waveforms = np.stack([waveform for _, waveform in group])
        found += pick_detections(
            engine.probabilities(waveforms, batch_size=batch.batch_size),
            min_confidence=options.min_confidence,
            top_n=options.top_n,
            allowed=options.allowed,
            first_window=len(windows),
        )
        windows += [window for window, _ in group]
        progress.audio(len(group) * options.rule.hop / rate)
    if stream.status == "quarantined" or not windows:
        raise UserError(stream.reason or "the recording holds no audio")
    spans = [options.rule.span_s(window, stream.duration_s) for window in windows]
    detections = tuple(
        Detection(spans[each.first][0], spans[each.last][1], engine.classes[each.class_index], each.confidence)
        for each in merge_detections(found, options.merge_consecutive)
    )
    scored = RecordingDetections(recording, batch.root, engine.frontend.fmin_hz, engine.frontend.fmax_hz, detections)
    done = resume.Stamp(stream.status, stream.reason, tuple(stream.flags), float(stream.duration_s), len(detections))
    return scored, done


def _write(action: Callable[[], object], output: Path) -> None:
    try:
        action()
    except OSError as error:
        raise UserError(
            f"Results cannot be written to {output} ({error.strerror or error}); free disk space or choose another "
            "output folder and run again. Finished recordings are kept."
        ) from None


class _Progress:
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
        if time.monotonic() - self.shown >= _PROGRESS_EVERY_S:
            self.shown = time.monotonic()
            self.line()
