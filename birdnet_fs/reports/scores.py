"""scores.csv: the probabilities a model gave to segments whose labels are known.

Columns `path, onset_s, duration_s, group, labels`, then one per class with the probability; `labels` are the
true classes, `;` between them. Probabilities have nine digits, so every float32 comes back as it was.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.files import atomic_path
from birdnet_fs.recordings.audio import duration_s
from birdnet_fs.recordings.manifest import Clip

COLUMNS = ("path", "onset_s", "duration_s", "group", "labels")


class Scored(Protocol):
    """What a row of scores.csv is about; a `ScoreRow` and a `recordings.segments.Segment` are."""

    @property
    def path(self) -> Path | str: ...
    @property
    def onset_s(self) -> float: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def group(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class ScoreRow:
    """One row: what was scored, and what is truly in it."""

    path: str
    onset_s: float
    duration_s: float
    group: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class ScoreTable:
    """scores.csv in memory; labels that are no class count as absent in `targets`."""

    rows: tuple[ScoreRow, ...]
    targets: np.ndarray  # float32 [n, n_classes], 0 or 1
    scores: np.ndarray  # float32 [n, n_classes]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, clips: Sequence[Clip], scores: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> "ScoreTable":
        """Scored clips as a table; the labels are those of `targets` [n_clips, n_classes]. Errors as `score_table`."""
        rows = []
        for clip, present in zip(clips, targets, strict=True):
            end = clip.offset_s if clip.offset_s is not None else duration_s(clip.path)
            labels = tuple(classes[c] for c in np.flatnonzero(present).tolist())
            rows.append(ScoreRow(str(clip.path), clip.onset_s, end - clip.onset_s, clip.group, labels))
        return score_table(rows, scores, classes)

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each row, the path where none is given."""
        return tuple(row.group or row.path for row in self.rows)

    @property
    def paths(self) -> tuple[str, ...]:
        """The recording of each row."""
        return tuple(row.path for row in self.rows)


def score_table(rows: Iterable[Scored], scores: np.ndarray, classes: Sequence[str]) -> ScoreTable:
    """Rows and their probabilities [n, n_classes] as a table.

    Raises:
        UserError: Shapes do not fit, a class stands twice, a label or class holds `;`, or a score is NaN.
    """
    kept = tuple(
        ScoreRow(str(row.path), float(row.onset_s), float(row.duration_s), row.group, tuple(row.labels)) for row in rows
    )
    scores = np.asarray(scores, np.float32)
    if scores.shape != (len(kept), len(classes)):
        raise UserError(f"scores must be [{len(kept)}, {len(classes)}] (rows, classes). Received: {scores.shape}")
    if np.isnan(scores).any():
        first = kept[int(np.flatnonzero(np.isnan(scores).any(axis=1))[0])]
        raise UserError(f"scores must be numbers; those of {first.path} at {first.onset_s:g} s hold NaN.")
    place = {name: c for c, name in enumerate(classes)}
    if len(place) != len(classes):
        raise UserError("Every class must stand once in a score table; two have the same name.")
    targets = np.zeros(scores.shape, np.float32)
    for i, row in enumerate(kept):
        for label in row.labels:
            if ";" in label:
                raise UserError(f"Labels must not hold ';', which stands between labels. Received: {label!r}")
            if label in place:
                targets[i, place[label]] = 1
    return ScoreTable(kept, targets, scores, tuple(classes))


def write_scores(path: Path | str, table: ScoreTable) -> None:
    """Write scores.csv, whole or not at all."""
    digits = ",".join(["%.9g"] * len(table.classes))
    # names that are not UTF-8 go through as the bytes they are
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow([*COLUMNS, *table.classes])
        for row, values in zip(table.rows, table.scores.tolist(), strict=True):
            about = [row.path, f"{row.onset_s:.9g}", f"{row.duration_s:.9g}", row.group, ";".join(row.labels)]
            out.writerow(about + ((digits % tuple(values)).split(",") if values else []))


def read_scores(path: Path | str) -> ScoreTable:
    """Read scores.csv.

    Raises:
        UserError: There is no such file, or a line is not as it should be (the line is named).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"A table of scores was expected at {path}; train or evaluate first.")
    rows, values = [], []
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        if tuple(header[: len(COLUMNS)]) != COLUMNS or len(header) == len(COLUMNS):
            raise UserError(f"{path} must begin with {','.join(COLUMNS)} and one column per class.")
        try:
            for line in lines:
                if len(line) != len(header):
                    raise ValueError(f"{len(line)} cells instead of {len(header)}")
                name, onset, duration, group, labels = line[: len(COLUMNS)]
                rows.append(
                    ScoreRow(name, float(onset), float(duration), group, tuple(filter(None, labels.split(";"))))
                )
                values.append(np.array([float(value) for value in line[len(COLUMNS) :]], np.float32))
        except (ValueError, csv.Error) as error:
            raise UserError(f"{path}, line {lines.line_num}: {error}; write the scores again.") from None
    classes = tuple(header[len(COLUMNS) :])
    scores = np.stack(values) if values else np.zeros((0, len(classes)), np.float32)
    return score_table(rows, scores, classes)
