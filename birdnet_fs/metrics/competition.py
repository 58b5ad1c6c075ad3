"""The metric of BirdCLEF 2023 to 2025: macro ROC-AUC over the classes with a positive in the solution.

Source: the competition's code, https://www.kaggle.com/code/metric/birdclef-roc-auc: the column row_id is dropped, a
submission with cells that are no numbers is refused, classes whose sum in the solution is 0 are left out, and the mean
of scikit-learn's roc_auc_score of the others is taken. A class that is positive in every row has a sum above 0 and no
AUC: it is not left out, so the score is NaN.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.tables.reading import open_table
from birdnet_fs.metrics.auroc import macro_auroc, mean_of_defined

IGNORED = ("Usage",)  # column of Kaggle's solutions that marks the rows of the public score


@dataclass(frozen=True)
class CompetitionScore:
    """The score of a submission.

    Attributes:
        value: The score in 0..1; nan where a class is positive in every row.
        per_class: AUC by class, of the classes with a positive; nan where it is positive in every row.
        always_positive: Names of these classes.
        mean_of_others: Mean over the classes that are neither without a positive nor always positive.
    """

    value: float
    per_class: dict[str, float]
    always_positive: tuple[str, ...]
    mean_of_others: float


@dataclass(frozen=True, eq=False)
class RowTable:
    """A table of one number per row and class.

    Attributes:
        path: File of the table.
        row_ids: Name of each row.
        columns: Classes.
        values: float64 [n_rows, n_classes].
    """

    path: Path
    row_ids: tuple[str, ...]
    columns: tuple[str, ...]
    values: NDArray[np.float64]


def competition_score(targets: ArrayLike, scores: ArrayLike, classes: tuple[str, ...]) -> CompetitionScore:
    """The score of aligned tables; UserErrors are those of `auroc.checked`.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], real numbers.
        classes: Names in column order.

    Returns:
        The score.

    Raises:
        UserError: No class has a positive.

    >>> competition_score([[0, 0], [1, 0]], [[0.2, 0.9], [0.3, 0.1]], ("a", "b")).value
    1.0
    """
    truth = np.asarray(targets)
    kept = np.flatnonzero(truth.sum(axis=0) > 0)
    if not len(kept):
        raise UserError("The metric needs a solution in which a class has a positive row; it has none.")
    found = macro_auroc(truth[:, kept], np.asarray(scores)[:, kept])
    names = [classes[c] for c in kept]
    always = tuple(names[c] for c in found.skipped)
    value = float("nan") if always else found.value
    per_class = dict(zip(names, found.per_class.tolist(), strict=True))
    return CompetitionScore(value, per_class, always, mean_of_defined(found.per_class))


def score_submission(submission: Path | str, solution: Path | str) -> CompetitionScore:
    """Score a submission by a labeled solution; rows are matched by the first column.

    Args:
        submission: CSV with row_id and one column per class.
        solution: CSV of the same rows and classes, with 0 or 1; a column Usage is ignored.

    Returns:
        The score.

    Raises:
        UserError: A cell is no finite number, a row is there twice, or rows or classes are missing or too many.
    """
    given, true = read_row_table(Path(submission)), read_row_table(Path(solution))
    missing = [name for name in true.columns if name not in given.columns]
    if missing:
        raise UserError(
            f"{escaped(given.path)} must have a column for each class of the solution; {len(missing)} are missing, "
            f"first {escaped(missing[0])!r}."
        )
    place = {name: row for row, name in enumerate(given.row_ids)}
    absent = [name for name in true.row_ids if name not in place]
    extra = len(place) - (len(true.row_ids) - len(absent))
    if absent or extra:
        first = absent[0] if absent else next(iter(place.keys() - set(true.row_ids)))
        raise UserError(
            f"{escaped(given.path)} must have the rows of the solution; {len(absent)} are missing and {extra} are not "
            f"of it, as {escaped(first)!r}."
        )
    rows = [place[name] for name in true.row_ids]
    columns = [given.columns.index(name) for name in true.columns]
    if not np.isin(true.values, (0, 1)).all():
        raise UserError(f"{escaped(true.path)} must hold 0 or 1 in the columns of classes.")
    return competition_score(true.values, given.values[np.ix_(rows, columns)], true.columns)


def read_row_table(path: Path) -> RowTable:
    """Read a table of numbers.

    Args:
        path: CSV: a name in the first column, a number in each other one.

    Returns:
        The table.

    Raises:
        UserError: A cell is no finite number, or a row is there twice.
    """
    table = open_table(path, [])
    columns = tuple(name for name in table.columns[1:] if name not in IGNORED)
    ids, values = dict[str, None](), list[list[float]]()
    for number, cells, problem in table.rows():
        name = cells.get(table.columns[0])
        where = f"{escaped(table.name)} row {number}"
        if problem or not name:
            raise UserError(f"{where}: {problem or 'the first cell must name the row.'}")
        if name in ids:
            raise UserError(f"{escaped(table.name)} has the row {escaped(name)!r} twice.")
        ids[name] = None
        try:
            row = [float(cells.get(column)) for column in columns]
        except ValueError:
            row = [float("nan")]
        if not np.isfinite(row).all():
            wrong = next(column for column in columns if not _is_number(cells.get(column)))
            raise UserError(
                f"{where}: every class must have a finite number. Received: {escaped(cells.get(wrong))!r} in the "
                f"column {escaped(wrong)}"
            )
        values.append(row)
    if not values or not columns:
        raise UserError(f"{escaped(path)} must have row_id and one column per class, and rows; it has none.")
    return RowTable(path, tuple(ids), columns, np.array(values))


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
