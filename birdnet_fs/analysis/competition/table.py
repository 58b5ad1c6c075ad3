"""A submission table: scores of windows are added as they come, and the file can be written at any time.

The rows that are asked for decide rows, columns and their order: the submission never has fewer rows. A row whose
window has no scores gets the mean of each class over the windows that have, which neither favors nor hides it in a
ranking (False in the long form); without any scores, and in columns of classes that the model does not have, it is 0.
Everything that was filled in this way is counted.

Probabilities are written with the nine digits that give the same float32 again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birdnet_fs.analysis.competition.rows import SubmissionRows, Window
from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import escaped


@dataclass(frozen=True)
class SubmissionReport:
    """Rows and classes without scores in a submission.

    Attributes:
        n_rows: Rows of the submission.
        n_without_scores: Rows whose window was not scored.
        recordings: Their recordings (file_id), sorted.
        classes: Classes that were asked for and not scored, in order.
        n_scored_classes: Classes that were asked for and scored.
        filled_with: Content of the rows without scores, as a clause.
    """

    n_rows: int
    n_without_scores: int
    recordings: tuple[str, ...]
    classes: tuple[str, ...]
    n_scored_classes: int
    filled_with: str

    @property
    def lines(self) -> tuple[str, ...]:
        """Sentences for the user; none where nothing is missing."""
        found = []
        if self.n_without_scores:
            found.append(
                f"{self.n_without_scores} of {self.n_rows} rows, of {len(self.recordings)} recordings, have no scores "
                f"and get {self.filled_with}: {_shown(self.recordings)}"
            )
        if self.classes:
            n_classes = len(self.classes) + self.n_scored_classes
            found.append(
                f"{len(self.classes)} of {n_classes} classes are not of the model and get no detection: "
                f"{_shown(self.classes)}"
            )
        return tuple(found)


class SubmissionTable:
    """The submission as far as windows are scored.

    Args:
        rows: The rows that are asked for.
        columns: Column of the scores of each class that is asked for; classes that are missing are not scored.
        threshold: Lowest probability of a True in the long form, 0..1. Default: 0.5.

    Raises:
        UserError: The threshold is out of range.
    """

    def __init__(self, rows: SubmissionRows, columns: Mapping[str, int], *, threshold: float = 0.5) -> None:
        if not 0 <= threshold <= 1:
            raise UserError(f"The threshold must be in 0..1. Received: {threshold}")
        self.rows, self.threshold = rows, threshold
        self._known = [name for name in rows.classes if name in columns]
        self._columns = np.array([columns[name] for name in self._known], np.intp)
        place = {window: number for number, window in enumerate(dict.fromkeys(rows.windows))}
        self._place = place
        self._of_row = [place[window] for window in rows.windows]
        self._scores = np.zeros((len(place), len(self._known)), np.float32)
        self._scored = np.zeros(len(place), bool)

    def add(self, windows: Sequence[Window], probabilities: ArrayLike) -> None:
        """Add the scores of windows; those that no row asks for are left out.

        Args:
            windows: (file_id, end in seconds) of each row of `probabilities`.
            probabilities: [n_windows, n_classes] in 0..1, classes in the order of the model.

        Raises:
            UserError: A window was scored before, or a probability is not in 0..1.
        """
        given = np.asarray(probabilities)
        if not ((given >= 0) & (given <= 1)).all():
            raise UserError("Probabilities of a submission must be in 0..1.")
        for window, row in zip(windows, given, strict=True):
            number = self._place.get(window, -1)
            if number < 0:
                continue
            if self._scored[number]:
                raise UserError("Every window of a submission must be scored once; the same one was given twice.")
            self._scores[number], self._scored[number] = row[self._columns], True

    def write(self, output: Path | str) -> SubmissionReport:
        """Write the submission, atomically.

        Args:
            output: CSV file to write.

        Returns:
            What is missing.
        """
        rows = self.rows
        with atomic_path(output) as part, open(part, "w", encoding="utf-8", newline="") as file:
            writer = csv_writer(file)
            writer.writerow([rows.id_column, *(rows.columns or ("target",))])
            if rows.layout == "long":
                column = {name: at for at, name in enumerate(self._known)}
                for name, bird, number in zip(rows.row_ids, rows.birds, self._of_row, strict=True):
                    scored = bird in column and self._scored[number]
                    writer.writerow([name, bool(scored and self._scores[number, column[bird]] >= self.threshold)])
            else:
                mean = self._cells(self._mean())
                for name, number in zip(rows.row_ids, self._of_row, strict=True):
                    cells = self._cells(self._scores[number]) if self._scored[number] else mean
                    writer.writerow([name, *cells])
        return self.report()

    def report(self) -> SubmissionReport:
        """Rows and classes without scores so far."""
        without = [w for w, number in zip(self.rows.windows, self._of_row, strict=True) if not self._scored[number]]
        missing = tuple(name for name in self.rows.classes if name not in self._known)
        filled = "no detection"
        if self.rows.layout == "wide" and self._scored.any():
            filled = f"the mean of each class over the {self._scored.sum()} scored windows"
        names = tuple(sorted({name for name, _ in without}))
        return SubmissionReport(len(self._of_row), len(without), names, missing, len(self._known), filled)

    def _mean(self) -> NDArray[np.float32]:
        """Mean of each scored class [n_known] over the scored windows; 0 where there are none."""
        found = self._scores[self._scored]
        return found.mean(axis=0, dtype=np.float64).astype(np.float32) if len(found) else np.zeros_like(self._scores[0])

    def _cells(self, scores: NDArray[np.float32]) -> list[str]:
        """Cells of a row of the wide form, one per column, of the scores [n_known]."""
        texts = dict(zip(self._known, (f"{value:.9g}" for value in scores.tolist()), strict=True))
        return [texts.get(name, "0") for name in self.rows.columns]


def write_submission(
    rows: SubmissionRows,
    classes: Sequence[str],
    windows: Sequence[Window],
    probabilities: ArrayLike,
    output: Path | str,
    *,
    threshold: float = 0.5,
) -> SubmissionReport:
    """Write the submission of scores that are all there; UserErrors are those of `SubmissionTable`.

    Args:
        rows: The rows that are asked for.
        classes: Names of the columns of `probabilities`, those of the competition.
        windows: (file_id, end in seconds) of each row of `probabilities`.
        probabilities: [n_windows, n_classes] in 0..1.
        output: CSV file to write.
        threshold: Lowest probability of a True in the long form, 0..1. Default: 0.5.

    Returns:
        What is missing.
    """
    table = SubmissionTable(rows, {name: number for number, name in enumerate(classes)}, threshold=threshold)
    table.add(windows, probabilities)
    return table.write(output)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(escaped, names[:3])) + (", ..." if len(names) > 3 else "")
