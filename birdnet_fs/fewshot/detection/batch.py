"""Few-shot detection in all recordings of a table of labels, in the layout of the DCASE task or any other with times.

In each recording, the first events of a class are its examples. Where more events are labeled, they are not used for
the detection, and the detections are compared with them as in the DCASE task (metrics/event_f1.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from birdnet_fs.audio.read import AudioError, read_audio
from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path, write_json
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import track
from birdnet_fs.core.text import escaped, mark_formula
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, read_manifest
from birdnet_fs.fewshot.detection.detector import Detections, DetectionSettings, Times, detect_events
from birdnet_fs.fewshot.detection.frames import Frames, compute_frames, frame_frontend
from birdnet_fs.metrics.event_f1 import EventCounts, count_events, event_scores
from birdnet_fs.schema import Data

COLUMNS = ("Audiofilename", "Starttime", "Endtime", "Class", "Probability")


@dataclass(frozen=True, eq=False)
class ClassInRecording:
    """The detections of one class in one recording.

    Attributes:
        path: The recording.
        label: The class.
        detections: Detections of the class in the recording.
        counts: Comparison with the events after the examples; None where no such event is labeled.
    """

    path: Path
    label: str
    detections: Detections
    counts: EventCounts | None


@dataclass
class BatchDetections:
    """Detections in all recordings, and their outcomes.

    Attributes:
        found: Classes in recordings, in the order of the table.
        ledger: The outcome of every recording and class.
        notes: Remarks of the reader of the table.
    """

    found: list[ClassInRecording] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, EventCounts]:
        """Counts of each class over all recordings with events after the examples, by class."""
        found: dict[str, EventCounts] = {}
        for each in self.found:
            if each.counts is not None:
                found[each.label] = found.get(each.label, EventCounts()) + each.counts
        return dict(sorted(found.items()))


@locked("output")
def detect_in_recordings(data: Data, output: Path, settings: DetectionSettings) -> BatchDetections:
    """Detect the events of every class in every recording, and write them.

    Args:
        data: The recordings and their timed events.
        output: CSV file for the detections; NAME.ledger.csv is written beside it, and NAME.scores.json where events
            after the examples are labeled. Replaced where they exist.
        settings: Settings of the detection.

    Returns:
        What was found; a recording that cannot be used is a row of the ledger. After an interrupt, what was found
        until then is written.

    Raises:
        UserError: The table cannot be read or has no timed event.
    """
    manifest = read_manifest(data)
    result = BatchDetections(notes=manifest.notes)
    result.ledger.rows = [row for row in manifest.ledger.rows if row.status == "quarantined"]
    recordings: dict[Path, list[Clip]] = {}
    for clip in manifest.clips:
        if clip.offset_s is not None:
            recordings.setdefault(clip.path, []).append(clip)
    if not any(clip.labels for clips in recordings.values() for clip in clips):
        raise UserError(
            f"{escaped(Path(data.root) / data.table)} must have events with times, such as the columns Audiofilename, "
            "Starttime, Endtime and one column per class. Received: none"
        )
    try:
        for path, clips in track(recordings.items(), "detecting", total=len(recordings), unit="recording"):
            _one_recording(path, clips, settings, result)
    finally:
        _write(result, output, settings)
    return result


def _one_recording(path: Path, clips: list[Clip], settings: DetectionSettings, result: BatchDetections) -> None:
    try:
        audio = read_audio(path, sample_rate_hz=settings.sample_rate_hz)
    except AudioError as error:
        result.ledger.add(path, "quarantined", error.reason)
        return
    cache: dict[int, Frames] = {}
    for label in sorted({label for clip in clips for label in clip.labels}):
        events = _times(clip for clip in clips if label in clip.labels)
        unsure = _times(clip for clip in clips if label in clip.unknown)
        shots = events[: settings.n_shots]
        try:
            if len(shots) < settings.n_shots:
                raise UserError(f"the class has {len(events)} events, fewer than {settings.n_shots} examples")
            spec = frame_frontend(
                float(np.diff(shots, axis=1).mean()),
                sample_rate_hz=settings.sample_rate_hz,
                fmin_hz=settings.fmin_hz,
                fmax_hz=settings.fmax_hz,
            )
            if spec.hop_length not in cache:
                cache[spec.hop_length] = compute_frames(audio.waveform, spec)
            found = detect_events(cache[spec.hop_length], shots, unsure, settings)
        except UserError as error:
            result.ledger.add(path, "quarantined", str(error), source=label)
            continue
        counts = None
        if len(events) > settings.n_shots:
            counts = count_events(events, found.times, unsure, n_shots=settings.n_shots)
        result.found.append(ClassInRecording(path, label, found, counts))
        result.ledger.add(path, audio.status, audio.reason, audio.flags, audio.duration_s, source=label)


def _times(clips: Iterable[Clip]) -> Times:
    """Onset and offset of clips [n, 2], by onset."""
    return np.array(sorted((clip.onset_s, clip.offset_s) for clip in clips), np.float64).reshape(-1, 2)


def _write(result: BatchDetections, output: Path, settings: DetectionSettings) -> None:
    with atomic_path(output) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv_writer(file)
        writer.writerow(COLUMNS)
        for each in result.found:
            names = [mark_formula(escaped(name)) for name in (each.path.name, each.label)]
            rows = zip(each.detections.times.tolist(), each.detections.probabilities.tolist(), strict=True)
            for (onset, offset), probability in rows:
                writer.writerow([names[0], f"{onset:.4f}", f"{offset:.4f}", names[1], f"{probability:.6f}"])
    result.ledger.write(output.with_suffix(".ledger.csv"))
    scores_file = output.with_suffix(".scores.json")
    if counts := result.counts():
        total = sum(counts.values(), EventCounts())
        of_class = {label: {**vars(event_scores(c)), **vars(c)} for label, c in counts.items()}
        write_json(
            scores_file,
            {"settings": vars(settings), "all": {**vars(event_scores(total)), **vars(total)}, "classes": of_class},
        )
    else:
        scores_file.unlink(missing_ok=True)
