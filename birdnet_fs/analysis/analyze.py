"""The batch: an engine and any recordings in, one table per recording and format out, and a ledger of all.

Every recording found ends as one row of `ledger.csv`. A broken one is quarantined with its reason and never
stops the others nor changes their tables: batches never mix two recordings. Tables are whole or absent, and
a finished recording is not done again (resume.py).
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
_SAY_EVERY_S = 10.0


@dataclass(frozen=True)
class _Batch:
    """What is the same for all recordings of one call."""

    engine: Engine
    root: Path
    output: Path
    formats: tuple[str, ...]
    choice: ScoringOptions
    batch_size: int
    overwrite: bool

    def settings(self) -> dict[str, Any]:
        """Everything a table depends on but the recording itself, as JSON."""
        return {
            "format": 1,
            "model": self.engine.identity,
            "classes": hashlib.sha256("\n".join(self.engine.classes).encode()).hexdigest(),
            "root": os.fsencode(self.root).hex(),
            "formats": sorted(self.formats),
            "choice": asdict(self.choice),
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
        engine: From `open_engine`.
        inputs: Files, and folders that are searched at any depth.
        output: Folder for the tables (in the inputs' own sub-folders) and `ledger.csv`.
        formats: Names of `formats.FORMATS`.
        min_confidence: Lowest probability that is written, 0..1. None is 0.25, or 0 when `top_n` is given.
        overlap_s: Overlap of consecutive windows in seconds, 0 up to the segment length.
        batch_size: Windows given to the model at once; changes speed and memory only.
        top_n: At most this many classes per window; 0 = no limit.
        merge_consecutive: Join up to this many consecutive windows of a class, with the highest confidence
            of them; 1 = off, 0 = no limit.
        species: Class or scientific names that may be called; none = all.
        overwrite: Do recordings again that were finished with the same model and settings.

    Returns:
        The ledger, also written to `output/ledger.csv` (when interrupted: what was done so far).

    Raises:
        UserError: An argument is out of its range, an input does not exist, nothing was found, or the
            output cannot be written. A broken recording raises nothing.
    """
    names = tables.check_formats(formats)
    choice = check_options(
        engine,
        min_confidence=min_confidence,
        overlap_s=overlap_s,
        top_n=top_n,
        merge_consecutive=merge_consecutive,
        species=species,
    )
    if batch_size < 1:
        raise UserError(f"batch_size must be 1 or more. Received: {batch_size}")
    root, recordings = find_recordings(inputs)
    batch = _Batch(engine, root, Path(output), names, choice, batch_size, overwrite)
    stems = table_stems(recordings, root)
    _write(lambda: batch.output.mkdir(parents=True, exist_ok=True), batch.output)
    ledger = Ledger()
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
    """Do one recording, or find it done."""
    relative = recording.relative_to(batch.root)
    files = [batch.output / relative.parent / (stem + tables.FORMATS[name].suffix) for name in batch.formats]
    place = resume.stamp_path(batch.output, relative)
    try:
        key = resume.fingerprint(recording, batch.settings())
        found = None if batch.overwrite else resume.read_stamp(place, key, files)
        if found:
            return found
        scored, done = _score(batch, recording, progress)
    except UserError as error:
        return resume.Stamp("quarantined", getattr(error, "reason", "") or str(error), (), 0.0, 0)
    except OSError as error:
        return resume.Stamp("quarantined", f"cannot be read ({error.strerror or error})", (), 0.0, 0)

    def write() -> None:
        place.unlink(missing_ok=True)  # until the new stamp is there, none may vouch for the tables
        for file, name in zip(files, batch.formats, strict=True):
            write_text(file, tables.FORMATS[name].render(scored))
        resume.write_stamp(place, key, done)

    _write(write, batch.output)
    return done


def _score(batch: _Batch, recording: Path, progress: "_Progress") -> tuple[RecordingDetections, resume.Stamp]:
    """Stream one recording through the model."""
    engine, choice = batch.engine, batch.choice
    rate = engine.sample_rate_hz
    stream = audio.stream_audio(recording, sample_rate_hz=rate)
    hits: list[WindowDetection] = []
    windows: list[Window] = []
    for group in batched(choice.rule.stream(stream), batch.batch_size):
        waveforms = np.stack([waveform for _, waveform in group])
        hits += pick_detections(
            engine.probabilities(waveforms, batch_size=batch.batch_size),
            min_confidence=choice.min_confidence,
            top_n=choice.top_n,
            allowed=choice.allowed,
            first_window=len(windows),
        )
        windows += [window for window, _ in group]
        progress.audio(len(group) * choice.rule.hop / rate)
    if stream.status == "quarantined" or not windows:
        raise UserError(stream.reason or "it holds no audio")
    spans = [choice.rule.span_s(window, stream.duration_s) for window in windows]
    detections = tuple(
        Detection(spans[hit.first][0], spans[hit.last][1], engine.classes[hit.class_index], hit.confidence)
        for hit in merge_detections(hits, choice.merge_consecutive)
    )
    scored = RecordingDetections(recording, batch.root, engine.frontend.fmin_hz, engine.frontend.fmax_hz, detections)
    done = resume.Stamp(stream.status, stream.reason, tuple(stream.flags), float(stream.duration_s), len(detections))
    return scored, done


def _write(action: Callable[[], object], output: Path) -> None:
    try:
        action()
    except OSError as error:
        raise UserError(
            f"Results cannot be written to {output} ({error.strerror or error}); "
            "free or change the output folder and run again, finished recordings are kept."
        ) from None


class _Progress:
    """Lines on stderr: recordings done, hours of audio, and how many times real time."""

    def __init__(self, total: int) -> None:
        self.total, self.count, self.audio_s, self.detections = total, 0, 0.0, 0
        self.start = self.shown = time.monotonic()

    def audio(self, seconds: float) -> None:
        """That much more audio was scored."""
        self.audio_s += seconds
        self._perhaps()

    def recording(self, n_detections: int) -> None:
        """One more recording is done."""
        self.count += 1
        self.detections += n_detections
        self._perhaps()

    def line(self) -> None:
        """Say where the batch is."""
        spent = max(time.monotonic() - self.start, 1e-9)
        say(
            f"analyze: {self.count}/{self.total} recordings, {self.detections} detections, "
            f"{self.audio_s / 3600:.2f} h of audio scored, {self.audio_s / spent:.0f} x real time"
        )

    def _perhaps(self) -> None:
        if time.monotonic() - self.shown >= _SAY_EVERY_S:
            self.shown = time.monotonic()
            self.line()
