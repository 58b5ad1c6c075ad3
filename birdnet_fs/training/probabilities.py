"""A table of probabilities as scores.csv and pseudo.csv have it: where each row was heard, and a column for each class.

Columns path, onset_s, duration_s, group, labels, then the classes. It is here beside reports/scores.py because training
reads such tables, of clips for `distillation.teacher`, of windows for `pseudo`, and because the windows of thousands of
recordings are written one recording at a time.
"""

import contextlib
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.files import atomic_path
from birdnet_fs.recordings.ledger import escaped

ABOUT = ("path", "onset_s", "duration_s", "group", "labels")
ONE = 0.01  # what the probabilities of a row may be off the sum of 1


@dataclass(frozen=True)
class Probabilities:
    """Rows in the order of the file.

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


def read_probabilities(path: Path, classes: Sequence[str], *, multi_label: bool) -> Probabilities:
    """Read a table.

    Args:
        path: The file.
        classes: In the order wanted; the file must have the same, in any order.
        multi_label: Any number of classes, else a row's probabilities sum to 1.

    Raises:
        UserError: No such file, a line is not as it should be, or other classes.
    """
    if not path.is_file():
        raise UserError(f"A table of probabilities was expected at {escaped(path)}; it does not exist.")
    paths, times, values = [], [], []
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file)
        try:
            header = next(lines, [])
            if not {"path", "onset_s", "duration_s"} <= set(header) or len(set(header)) < len(header):
                raise UserError(f"{escaped(path)} must have the columns {', '.join(ABOUT)} and one for each class.")
            same_classes([name for name in header if name not in ABOUT], classes, str(path))
            columns = [header.index(name) for name in classes]
            place, onset, duration = (header.index(name) for name in ("path", "onset_s", "duration_s"))
            for line in lines:
                row = np.array([float(line[i]) for i in columns], np.float32)
                times.append((float(line[onset]), float(line[duration])))
                paths.append(line[place])
                if not (row >= 0).all() or not (row <= 1).all() or not (multi_label or abs(row.sum() - 1) < ONE):
                    what = "lie in 0..1" if multi_label else "lie in 0..1 and sum to 1 (data.multi_label=false)"
                    raise UserError(f"{escaped(path)}, line {lines.line_num}: probabilities must {what}.")
                values.append(row)
        except UserError:
            raise
        except (ValueError, IndexError, csv.Error) as error:
            raise UserError(f"{escaped(path)}, line {lines.line_num}: {error}; write it again.") from None
    found = np.array(values, np.float32).reshape(-1, len(classes))
    seconds = np.array(times, np.float64).reshape(-1, 2)
    return Probabilities(tuple(paths), seconds[:, 0], seconds[:, 1], found)


Add = Callable[[Path, NDArray[np.float64], NDArray[np.float32]], None]


@contextlib.contextmanager
def writing(path: Path, classes: Sequence[str]) -> Iterator[Add]:
    """Write a table, whole or not at all.

    Args:
        path: The file.
        classes: Of the columns.

    Yields:
        A function that adds the rows of a recording: its path, onsets and durations in seconds [n, 2], probabilities
        [n, n_classes].
    """
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow([*ABOUT, *classes])

        def add(recording: Path, times_s: NDArray[np.float64], values: NDArray[np.float32]) -> None:
            for (onset, duration), row in zip(times_s.tolist(), values.tolist(), strict=True):
                out.writerow([recording, f"{onset:.9g}", f"{duration:.9g}", "", "", *(f"{value:.6g}" for value in row)])

        yield add


def same_classes(theirs: Sequence[str], ours: Sequence[str], name: str) -> None:
    """Refuse other classes than those that are trained.

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
