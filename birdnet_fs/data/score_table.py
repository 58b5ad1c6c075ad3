"""The table of scores: scores.csv of evaluate, oof.csv, the tables of teachers and pseudo.csv, written and read here.

Columns `path, onset_s, duration_s, group, labels`, then one per class with the score; `labels` are the true classes,
`;` between them. Scores have nine significant digits and times as many as they need, so that every float32 score and
every float64 time is read back bit for bit. Names are written as the bytes they are, also where those are not UTF-8.

A table that somebody else wrote may have its columns in any order, and needs no `group` and `labels` to teach.
"""

import contextlib
import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.audio.read import duration_s
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip

COLUMNS = ("path", "onset_s", "duration_s", "group", "labels")
PLACE = COLUMNS[:3]  # without these a row is about nothing
SUM_TOLERANCE = 0.01  # of the probabilities of a row with one label: tables of others may have few digits


class ScoredRow(Protocol):
    """What a row is about; a `ScoreRow` and a `recordings.segments.Segment` are."""

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


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One row: what was scored, and what is truly in it where that is known."""

    path: str
    onset_s: float
    duration_s: float
    group: str = ""
    labels: tuple[str, ...] = ()

    @property
    def recording_group(self) -> str:
        """The group, or the path where none is given, as `Clip.recording_group`."""
        return self.group or self.path


@dataclass(frozen=True)
class ScoreTable:
    """A table in memory; labels that are no class count as absent in `targets`."""

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
        return tuple(row.recording_group for row in self.rows)

    @property
    def paths(self) -> tuple[str, ...]:
        """The recording of each row."""
        return tuple(row.path for row in self.rows)


def score_table(rows: Iterable[ScoredRow], scores: np.ndarray, classes: Sequence[str]) -> ScoreTable:
    """Rows and their scores as a table.

    Args:
        rows: n of them.
        scores: [n, n_classes].
        classes: Names of the columns.

    Raises:
        UserError: Shapes do not fit, a class stands twice, a label holds `;`, or a score is NaN.
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


Add = Callable[[Iterable[ScoredRow], np.ndarray], None]


@contextlib.contextmanager
def writing_scores(path: Path | str, classes: Sequence[str]) -> Iterator[Add]:
    """Write a table part by part, whole or not at all.

    Args:
        path: The file.
        classes: Names of the columns.

    Yields:
        A function that adds rows, given n of them and their scores float32 [n, n_classes].
    """
    digits = ",".join(["%.9g"] * len(classes))  # nine digits tell every float32 from its neighbors
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow([*COLUMNS, *classes])
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)  # the other leaves a bare \r unquoted

        def add(rows: Iterable[ScoredRow], scores: np.ndarray) -> None:
            for row, values in zip(rows, np.asarray(scores, np.float32).tolist(), strict=True):
                times = [repr(float(row.onset_s)), repr(float(row.duration_s))]
                about = [row.path, *times, row.group, ";".join(row.labels)]
                writer = quoted if any("\r" in str(cell) for cell in about) else out
                writer.writerow(about + ((digits % tuple(values)).split(",") if values else []))

        yield add


def write_scores(path: Path | str, table: ScoreTable) -> None:
    """Write a table, whole or not at all."""
    with writing_scores(path, table.classes) as add:
        add(table.rows, table.scores)


def read_scores(path: Path | str) -> ScoreTable:
    """Read a table with all its columns.

    Raises:
        UserError: There is no such file, or a line is not as it should be (the line is named).
    """
    rows, values = [], []
    with _opened(path, COLUMNS) as (classes, records):
        for _, row, scores in records:
            rows.append(row)
            values.append(scores)
    return score_table(rows, np.array(values, np.float32).reshape(-1, len(classes)), classes)


@dataclass(frozen=True)
class Probabilities:
    """Rows of a table to learn from, in the order of the file.

    Attributes:
        paths: As written, absolute or relative to something that the file does not say.
        onsets_s: [n].
        durations_s: [n].
        values: float32 [n, n_classes].
    """

    paths: tuple[str, ...]
    onsets_s: NDArray[np.float64]
    durations_s: NDArray[np.float64]
    values: NDArray[np.float32]


def read_probabilities(path: Path | str, classes: Sequence[str], *, multi_label: bool) -> Probabilities:
    """Read a table of probabilities to learn from, as a teacher's or pseudo.csv.

    Args:
        path: The file.
        classes: In the order wanted; the file must have the same, in any order.
        multi_label: Any number of classes, else a row's probabilities sum to 1.

    Raises:
        UserError: No such file, a line is not as it should be, or other classes.
    """
    paths, times, values = [], [], []
    with _opened(path, PLACE) as (known, records):
        same_classes(known, classes, str(path))
        columns = [known.index(name) for name in classes]
        for line, row, scores in records:
            p = scores[columns]
            if not (p >= 0).all() or not (p <= 1).all() or not (multi_label or abs(p.sum() - 1) < SUM_TOLERANCE):
                what = "lie in 0..1" if multi_label else "lie in 0..1 and sum to 1 (data.multi_label=false)"
                raise UserError(f"{escaped(path)}, line {line}: probabilities must {what}.")
            paths.append(row.path)
            times.append((row.onset_s, row.duration_s))
            values.append(p)
    seconds = np.array(times, np.float64).reshape(-1, 2)
    found = np.array(values, np.float32).reshape(-1, len(classes))
    return Probabilities(tuple(paths), seconds[:, 0], seconds[:, 1], found)


def same_classes(theirs: Sequence[str], ours: Sequence[str], name: str) -> None:
    """Refuse other classes than those that are trained.

    Args:
        theirs: Class names of a table or a run, in any order.
        ours: Those that are trained.
        name: What `theirs` are the classes of, for the message.

    Raises:
        UserError: The names are not the same; one that differs is given.
    """
    odd = sorted(set(theirs) ^ set(ours))
    if odd:
        where = "is not one of its classes" if odd[0] in set(ours) else "is its class but none here"
        raise UserError(
            f"{escaped(name)} must know the {len(ours)} classes that are trained here, in any order; {odd[0]!r} "
            f"{where} ({len(odd)} differ)."
        )


Record = tuple[int, ScoreRow, NDArray[np.float32]]  # number of the line, the row, its scores [n_classes]


@contextlib.contextmanager
def _opened(path: Path | str, required: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Iterator[Record]]]:
    """The classes of a table and its rows, one at a time."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"A table of scores was expected at {escaped(path)}; it does not exist: evaluate a run first.")
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file)
        try:
            header = next(lines, [])
        except csv.Error as error:
            raise UserError(f"{escaped(path)}, line {lines.line_num}: {error}; write the table again.") from None
        # the first of a name: a class may be called as one of our columns, which stand in front
        place = {name: header.index(name) for name in COLUMNS if name in header}
        columns = [i for i in range(len(header)) if i not in place.values()]
        classes = tuple(header[i] for i in columns)
        if not set(required) <= place.keys() or not classes:
            raise UserError(f"{escaped(path)} must have the columns {', '.join(required)} and one column per class.")
        if len(set(classes)) < len(classes):
            raise UserError(f"{escaped(path)} has two columns of the same name; every class must stand once.")
        yield classes, _records(lines, len(header), place, columns, path)


def _records(lines: Any, n_cells: int, place: dict[str, int], columns: Sequence[int], path: Path) -> Iterator[Record]:
    try:
        for line in lines:
            if len(line) != n_cells:
                raise ValueError(f"{len(line)} cells instead of {n_cells}")
            name, onset, duration, group, labels = (line[place[key]] if key in place else "" for key in COLUMNS)
            row = ScoreRow(name, float(onset), float(duration), group, tuple(filter(None, labels.split(";"))))
            yield lines.line_num, row, np.array([float(line[i]) for i in columns], np.float32)
    except (ValueError, csv.Error) as error:
        raise UserError(f"{escaped(path)}, line {lines.line_num}: {error}; write the table again.") from None
