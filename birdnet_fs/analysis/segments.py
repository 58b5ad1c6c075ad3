"""Detections of an analysis cut out as clips, one folder per class."""

from collections.abc import Collection
from pathlib import Path

from birdnet_fs.analysis.clips import file_name, write_clip
from birdnet_fs.analysis.combined.read import read_analysis
from birdnet_fs.analysis.detections import Detection, RecordingDetections
from birdnet_fs.analysis.options import allowed_classes
from birdnet_fs.audio.read import AudioError
from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say, track
from birdnet_fs.core.text import escaped, mark_formula

TABLE = "segments.csv"
COLUMNS = ("clip", "label", "confidence", "clip_start_s", "path", "start_s", "end_s")


@locked("output")
def cut_segments(
    analysis: Path,
    output: Path,
    *,
    min_confidence: float = 0.0,
    max_segments: int = 100,
    margin_s: float = 1.0,
    species: Collection[str] = (),
    recordings: Path | None = None,
) -> int:
    """Cut the detections of an analysis.

    Args:
        analysis: Output folder of `birdnet-fs analyze`.
        output: Folder, new or empty: `CLASS/CONFIDENCE_RECORDING_STARTs_ENDs.wav` and segments.csv.
        min_confidence: Lowest confidence, 0..1. Default: 0, all detections.
        max_segments: Largest number of clips of a class, the most confident ones; 0 = no limit. Default: 100.
        margin_s: Seconds before and after a detection, 0 or more. Default: 1.
        species: Class names or scientific names. Default: all classes.
        recordings: Folder of the recordings, where it was moved. Default: None, where they were.

    Returns:
        Number of clips.

    Raises:
        UserError: The analysis cannot be read (`read_analysis`), the folder is not empty, or no detection is left.
    """
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{escaped(output)} must be a new or an empty folder.")
    found: dict[str, list[tuple[RecordingDetections, Detection]]] = {}
    for recording, _ in read_analysis(analysis, recordings):
        for each in recording.detections:
            if each.confidence >= min_confidence:
                found.setdefault(each.label, []).append((recording, each))
    if not found:
        raise UserError(f"{escaped(analysis)} holds no detection with a confidence of {min_confidence:g} or more.")
    labels = sorted(found)
    rows, lost = list[tuple[object, ...]](), list[str]()
    for label in track([labels[i] for i in allowed_classes(labels, species)], "segments", unit="class"):
        best = sorted(found[label], key=lambda pair: -pair[1].confidence)[: max_segments or None]
        if len(best) < len(found[label]):
            say(f"{label}: the {len(best)} most confident of {len(found[label])} detections are cut.")
        for recording, each in best:
            stem = file_name(recording.path.relative_to(recording.root).with_suffix("").as_posix())
            name = f"{each.confidence:.3f}_{stem}_{each.onset_s:.1f}s_{each.offset_s:.1f}s.wav"
            clip = Path(file_name(label), name)
            try:
                start = write_clip(recording.path, output / clip, each.onset_s, each.offset_s, margin_s)
            except AudioError as error:
                lost.append(f"{escaped(recording.path)}: {error.reason}")
                continue
            times = (f"{value:.3f}" for value in (start, each.onset_s, each.offset_s))
            first, *others = times
            cells = (clip.as_posix(), escaped(label), f"{each.confidence:.4f}", first, escaped(recording.path))
            rows.append((*cells, *others))
    if lost:
        say(f"{len(lost)} detections could not be cut (the first, {lost[0]}).")
    with atomic_path(output / TABLE) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv_writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([mark_formula(cell) for cell in row] for row in rows)
    return len(rows)
