"""Tables of scores as CSV: scores.csv of evaluate, oof.csv, saved outputs of teachers, pseudo.csv.

Columns are `path, onset_s, duration_s, group, labels`, then one per class with its score; `labels` holds the true
classes, separated by `;`. Scores have nine significant digits and times as many as they need, so that every float32
score and every float64 time is read back exactly. Bytes of paths that are not UTF-8 are preserved. A name that a
spreadsheet program would calculate as a formula has an apostrophe in front (`core.text.mark_formula`).

The columns of a table that another program wrote may be in any order, and `group` and `labels` may be missing when
only its probabilities are read (`read_probabilities`).
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
from birdnet_fs.core.class_names import check_class_names
from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import escaped, mark_formula, unmark_formula
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.targets import check_same_classes

COLUMNS = ("path", "onset_s", "duration_s", "group", "labels")
PLACE = COLUMNS[:3]  # required: they identify the window of a row
SUM_TOLERANCE = 0.01  # of the sum of probabilities with one label: tables of other programs may have few digits


class ScoreRowLike(Protocol):
    """The scored window of a row: a `ScoreRow`, a `data.segments.Segment` or any object with these attributes."""

    @property
    def path(self) -> Path | str:
        """The recording."""

    @property
    def onset_s(self) -> float:
        """Start in the recording in seconds."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""

    @property
    def group(self) -> str:
        """Group (recording, site, individual), or ""."""

    @property
    def labels(self) -> tuple[str, ...]:
        """True classes where known."""


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One row without its scores: the scored window, and its true classes where known."""

    path: str
    onset_s: float
    duration_s: float
    group: str = ""
    labels: tuple[str, ...] = ()

    @property
    def recording_group(self) -> str:
        """The group, or the path when it is empty, as `Clip.recording_group`."""
        return self.group or self.path


@dataclass(frozen=True)
class ScoreTable:
    """A table in memory.

    Attributes:
        rows: The n rows.
        targets: float32 [n, n_classes], 1 for the labels of a row, else 0; labels that are not classes are ignored.
        scores: float32 [n, n_classes].
        classes: Names of the columns of `targets` and `scores`.
    """

    rows: tuple[ScoreRow, ...]
    targets: np.ndarray
    scores: np.ndarray
    classes: tuple[str, ...]

    @classmethod
    def from_clips(
        cls, clips: Sequence[Clip], scores: np.ndarray, targets: np.ndarray, classes: Sequence[str]
    ) -> "ScoreTable":
        """Make a table of scored clips. `UserError` is raised as by `score_table`.

        Args:
            clips: The n clips; the length of one without an end is read from its recording.
            scores: float [n, n_classes].
            targets: [n, n_classes], 1 for the true classes of a clip, which become its labels.
            classes: Names of the columns.

        Returns:
            The table.
        """
        rows = []
        for clip, present in zip(clips, targets, strict=True):
            end = clip.offset_s if clip.offset_s is not None else duration_s(clip.path)
            labels = tuple(classes[c] for c in np.flatnonzero(present).tolist())
            rows.append(ScoreRow(str(clip.path), clip.onset_s, end - clip.onset_s, clip.group, labels))
        return score_table(rows, scores, classes)

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each row, or its path when it has none."""
        return tuple(row.recording_group for row in self.rows)

    @property
    def paths(self) -> tuple[str, ...]:
        """The recording of each row."""
        return tuple(row.path for row in self.rows)


def score_table(rows: Iterable[ScoreRowLike], scores: np.ndarray, classes: Sequence[str]) -> ScoreTable:
    """Make a table of rows and their scores.

    Args:
        rows: The n rows.
        scores: float [n, n_classes].
        classes: Names of the columns.

    Returns:
        The table.

    Raises:
        UserError: Shapes do not match, a class name cannot be stored, a label contains `;`, or a score is NaN.
    """
    kept = tuple(
        ScoreRow(str(row.path), float(row.onset_s), float(row.duration_s), row.group, tuple(row.labels)) for row in rows
    )
    scores = np.asarray(scores, np.float32)
    if scores.shape != (len(kept), len(classes)):
        raise UserError(f"scores must be [{len(kept)}, {len(classes)}] (rows, classes). Received: {scores.shape}")
    if np.isnan(scores).any():
        first = kept[int(np.flatnonzero(np.isnan(scores).any(axis=1))[0])]
        raise UserError(f"scores must be numbers. Received: NaN for {first.path} at {first.onset_s:g} s")
    check_class_names(classes)
    place = {name: c for c, name in enumerate(classes)}
    targets = np.zeros(scores.shape, np.float32)
    for i, row in enumerate(kept):
        for label in row.labels:
            if ";" in label:
                raise UserError(f"Labels must not contain ';', which separates labels. Received: {label!r}")
            if label in place:
                targets[i, place[label]] = 1
    return ScoreTable(kept, targets, scores, tuple(classes))


AddRows = Callable[[Iterable[ScoreRowLike], np.ndarray], None]


@contextlib.contextmanager
def writing_scores(path: Path | str, classes: Sequence[str]) -> Iterator[AddRows]:
    """Write a table block by block; the file appears only when the block of the `with` statement ends without an error.

    Args:
        path: The CSV file.
        classes: Names of the columns.

    Yields:
        A function add(rows, scores) that appends n rows with their scores, float32 [n, n_classes].
    """
    check_class_names(classes)
    digits = ",".join(["%.9g"] * len(classes))  # nine digits distinguish every two float32 numbers
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        out = csv_writer(file)
        out.writerow([*COLUMNS, *map(mark_formula, classes)])

        def add(rows: Iterable[ScoreRowLike], scores: np.ndarray) -> None:
            for row, values in zip(rows, np.asarray(scores, np.float32).tolist(), strict=True):
                times = [repr(float(row.onset_s)), repr(float(row.duration_s))]
                about = [mark_formula(row.path), *times, *map(mark_formula, (row.group, ";".join(row.labels)))]
                out.writerow(about + ((digits % tuple(values)).split(",") if values else []))

        yield add


def write_scores(path: Path | str, table: ScoreTable) -> None:
    """Write a table, atomically."""
    with writing_scores(path, table.classes) as add:
        add(table.rows, table.scores)


def read_scores(path: Path | str) -> ScoreTable:
    """Read a table with all columns of `COLUMNS`; `UserError` is raised when it does not exist or is malformed."""
    rows, values = [], []
    with _opened(path, COLUMNS) as (classes, lines):
        for _, row, scores in lines:
            rows.append(row)
            values.append(scores)
    return score_table(rows, np.array(values, np.float32).reshape(-1, len(classes)), classes)


@dataclass(frozen=True)
class Probabilities:
    """Windows and their probabilities, in the order of the file.

    Attributes:
        paths: The n recordings as written in the file, absolute or relative.
        onsets_s: float64 [n], start of the windows in seconds.
        durations_s: float64 [n], length of the windows in seconds.
        values: float32 [n, n_classes], in 0..1.
    """

    paths: tuple[str, ...]
    onsets_s: NDArray[np.float64]
    durations_s: NDArray[np.float64]
    values: NDArray[np.float32]


def read_probabilities(path: Path | str, classes: Sequence[str], *, multi_label: bool) -> Probabilities:
    """Read a table of probabilities as training targets: saved outputs of a teacher, or pseudo.csv.

    Args:
        path: The CSV file.
        classes: Class names in the order of the result; the file must have the same classes, in any order.
        multi_label: Whether a window may have any number of classes; if False, the probabilities of a row sum to 1.

    Returns:
        The windows and their probabilities.

    Raises:
        UserError: The file does not exist, a line is malformed, or the classes differ.
    """
    paths, times, values = [], [], []
    with _opened(path, PLACE) as (known, lines):
        check_same_classes(known, classes, str(path))
        columns = [known.index(name) for name in classes]
        for line, row, scores in lines:
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


NumberedRow = tuple[int, ScoreRow, NDArray[np.float32]]  # line number, row, scores [n_classes]


@contextlib.contextmanager
def _opened(path: Path | str, required: Sequence[str]) -> Iterator[tuple[tuple[str, ...], Iterator[NumberedRow]]]:
    """Open a table; yields its classes and an iterator of its rows."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"A table of scores was expected at {escaped(path)}, which does not exist; birdnet-fs evaluate and "
            "birdnet-fs pseudo-label write such tables."
        )
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file)
        try:
            header = next(lines, [])
        except csv.Error as error:
            raise UserError(f"{escaped(path)}, line {lines.line_num}: {error}; write the table again.") from None
        header = [unmark_formula(cell) for cell in header]
        place = {name: header.index(name) for name in COLUMNS if name in header}
        columns = [i for i in range(len(header)) if i not in place.values()]
        classes = tuple(header[i] for i in columns)
        if not set(required) <= place.keys() or not classes:
            raise UserError(f"{escaped(path)} must have the columns {', '.join(required)} and one column per class.")
        if len(set(header)) < len(header):
            raise UserError(f"{escaped(path)} has two columns of the same name; class names must be unique.")
        yield classes, _rows(lines, len(header), place, columns, path)


def _rows(lines: Any, n_cells: int, place: dict[str, int], columns: Sequence[int], path: Path) -> Iterator[NumberedRow]:
    try:
        for line in lines:
            if len(line) != n_cells:
                raise ValueError(f"expected {n_cells} cells, received {len(line)}")
            cells = (unmark_formula(line[place[key]]) if key in place else "" for key in COLUMNS)
            name, onset, duration, group, labels = cells
            row = ScoreRow(name, float(onset), float(duration), group, tuple(filter(None, labels.split(";"))))
            yield lines.line_num, row, np.array([float(line[i]) for i in columns], np.float32)
    except (ValueError, csv.Error) as error:
        raise UserError(f"{escaped(path)}, line {lines.line_num}: {error}; write the table again.") from None
