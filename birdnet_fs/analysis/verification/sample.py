"""Draw windows of every class from an analysis, and write them as clips with a sheet to fill in."""

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis.clips import file_name, write_clip
from birdnet_fs.analysis.combined.read import read_analysis
from birdnet_fs.analysis.combined.write import FinishedRecording
from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.options import allowed_classes
from birdnet_fs.analysis.verification.sheet import CLIPS, COLUMNS, FORMAT, SAMPLE, SHEET
from birdnet_fs.analysis.verification.strata import BELOW, Stratum, draw_strata
from birdnet_fs.audio.read import AudioError
from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path, write_json
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import track
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.core.text import escaped, mark_formula

_TOLERANCE_S = 1e-3


@dataclass(frozen=True)
class _Windows:
    """Windows of all recordings: `first[i]` is the number of the first one of recording i."""

    recordings: Sequence[RecordingDetections]
    lengths_s: NDArray[np.float64]
    first: NDArray[np.int64]

    @property
    def n(self) -> int:
        return int(self.first[-1])

    def span(self, number: int) -> tuple[RecordingDetections, float, float]:
        """Recording, start and end of a window in seconds."""
        index = int(np.searchsorted(self.first, number, side="right")) - 1
        recording = self.recordings[index]
        start = (number - int(self.first[index])) * recording.hop_s
        return recording, start, min(start + recording.window_s, float(self.lengths_s[index]))


@locked("output")
def sample_windows(
    analysis: Path,
    output: Path,
    *,
    per_class: int = 50,
    margin_s: float = 1.0,
    species: Collection[str] = (),
    recordings: Path | None = None,
    seed: int = 0,
) -> dict[str, int]:
    """Write clips and a sheet.

    Args:
        analysis: Output folder of `birdnet-fs analyze`, with windows that are not merged.
        output: Folder, new or empty: `clips/CLASS/0001.wav`, sheet.csv and sample.json.
        per_class: Windows of each class, 1 or more. Default: 50.
        margin_s: Seconds before and after a window in its clip. Default: 1.
        species: Class names or scientific names. Default: all classes with a detection.
        recordings: Folder of the recordings, where it was moved. Default: None, where they were.
        seed: Seed of the draw. Default: 0.

    Returns:
        Number of clips by class.

    Raises:
        UserError: The analysis cannot be read (`read_analysis`), an argument is out of range, the folder is not empty,
            detections are merged or are of no windows, there is none, or a recording cannot be read.
    """
    if per_class < 1 or margin_s < 0:
        raise UserError(f"per_class must be 1 or more, and margin 0 or more. Received: {per_class}, {margin_s:g}")
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{escaped(output)} must be a new or an empty folder; verdicts are never replaced.")
    found = read_analysis(analysis, recordings)
    windows = _windows(found)
    by_class = _by_class(windows)
    if not by_class:
        raise UserError(f"{escaped(analysis)} holds no detection; analyze with a lower --min_conf.")
    labels = sorted(by_class)
    labels = [labels[i] for i in allowed_classes(labels, species)]
    rows: list[dict[str, Any]] = []
    sheet: list[tuple[object, ...]] = []
    for label in track(labels, "clips", unit="class"):
        numbers, scores = by_class[label]
        rng = generator(seed, Stream.VERIFICATION_SAMPLE, zlib.crc32(label.encode("utf-8", "surrogateescape")))
        strata = draw_strata(scores, windows.n - len(numbers), per_class, rng)
        below = np.setdiff1d(np.arange(windows.n), numbers, assume_unique=True)
        drawn = [(each, below[i] if each.number == BELOW else numbers[i]) for each in strata for i in each.drawn]
        clips: dict[int, list[str]] = {each.number: [] for each in strata}
        for place in rng.permutation(len(drawn)):
            stratum, number = drawn[place]
            recording, start, end = windows.span(int(number))
            clip = Path(CLIPS, file_name(label), f"{len(sheet) + 1:04d}.wav")  # classes may differ in case only
            try:
                onset = write_clip(recording.path, output / clip, start, end, margin_s)
            except AudioError as error:
                raise UserError(f"{escaped(recording.path)} cannot be cut: {error.reason}") from None
            clips[stratum.number].append(clip.as_posix())
            times = [f"{value:.3f}" for value in (start - onset, end - onset, start, end)]
            sheet.append((clip.as_posix(), escaped(label), "", *times[:2], escaped(recording.path), *times[2:]))
        rows.append({"label": escaped(label), "strata": [_about(each, clips[each.number]) for each in strata]})
    about = {"format": FORMAT, "seed": seed, "n_windows": windows.n, "hours": float(windows.lengths_s.sum() / 3600)}
    write_json(output / SAMPLE, {**about, "classes": rows})
    with atomic_path(output / SHEET) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv_writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([mark_formula(cell) for cell in row] for row in sheet)
    return {row["label"]: sum(len(each["clips"]) for each in row["strata"]) for row in rows}


def _about(stratum: Stratum, clips: Sequence[str]) -> dict[str, Any]:
    about = {"number": stratum.number, "low": stratum.low, "high": stratum.high, "n_windows": stratum.n_windows}
    return {**about, "clips": list(clips)}


def _windows(found: Sequence[FinishedRecording]) -> _Windows:
    recordings = [each.detections for each in found]
    if any(each.log or not each.n_windows for each in recordings):
        raise UserError(
            "A sample needs detections of whole windows; analyze without --preset and --two_stage, and again where the "
            "tables are of an earlier version."
        )
    lengths = np.array([each.outcome.duration_s for each in found])
    return _Windows(recordings, lengths, np.cumsum([0, *(each.n_windows for each in recordings)]))


def _by_class(windows: _Windows) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Numbers of the windows with a detection and its score, by class."""
    numbers: dict[str, list[int]] = {}
    scores: dict[str, list[float]] = {}
    for first, recording in zip(windows.first, windows.recordings, strict=False):
        for each in recording.detections:
            place = each.onset_s / recording.hop_s
            longer = each.offset_s - each.onset_s > recording.window_s + _TOLERANCE_S
            if longer or abs(place - round(place)) * recording.hop_s > _TOLERANCE_S:
                raise UserError(
                    f"{escaped(recording.path)} has detections of several windows; analyze with --merge_consecutive 1."
                )
            numbers.setdefault(each.label, []).append(int(first) + round(place))
            scores.setdefault(each.label, []).append(each.confidence)
    return {label: (np.array(numbers[label], np.int64), np.array(scores[label])) for label in numbers}
