"""Metrics of a table of scores, and the files metrics.json and report.html."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.score_table import ScoreTable, read_scores
from birdnet_fs.metrics import classification
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.metrics.bootstrap import bootstrap
from birdnet_fs.reports.calibration.errors import calibration_numbers
from birdnet_fs.reports.remarks import remarks
from birdnet_fs.reports.stored_scores import METRICS, REPORT, SCORES, remember_metrics
from birdnet_fs.reports.timed_events import timed_lines, timed_numbers
from birdnet_fs.runs.history import HISTORY, read_history
from birdnet_fs.runs.run import CLASSES, VERSIONS, load_run

MAX_BYTES = 200_000_000  # of a metrics.json: a confusion matrix of 4,000 classes
HELD_OUT_LEDGER = "held_out.csv"  # status of every recording that was scored
_DRAWS = (100, 1000)  # least and most bootstrap draws, fewer on large tables
_DRAWN_CELLS = 300_000_000


def evaluate_scores(
    targets: np.ndarray,
    scores: np.ndarray,
    classes: Sequence[str],
    groups: Sequence[str],
    *,
    multi_label: bool,
    seed: int = 0,
) -> dict[str, Any]:
    """Metrics as plain JSON values; undefined ones are None.

    Args:
        targets: [n, n_classes], 0 or 1.
        scores: [n, n_classes], probabilities.
        classes: Names in column order.
        groups: [n], recording or individual of each row; the bootstrap draws whole groups.
        multi_label: Decides what `accuracy` is: the share of rows whose set of labels is exactly right at a threshold
            of 0.5, else the share of rows whose highest score is a true class.
        seed: Seed of the bootstrap. Default: 0.

    Returns:
        macro_auroc, macro_auroc_ci [low, high] (95 %), n_scored_classes, skipped_classes, accuracy, accuracy_is,
        log_loss, precision, recall, f1 (means over the classes that occur), weighted_precision, weighted_recall,
        weighted_f1 (every class weighing its rows), cmap, no_call_average_precision (of rows without a label by how low
        the highest score is; multi-label), n_segments, n_groups, n_bootstrap, seed, per_class (a list of
        name, n_positives, n_predicted, auroc, average_precision, precision, recall, f1, best_f1 and threshold, the one
        of the best f1), calibration (reports/calibration/errors.py), confusion ([true][called], rows with one label
        only) and remarks (reports/remarks.py). Precision, recall and f1 are of classes called as `accuracy` has them
        called.

    Raises:
        UserError: Shapes do not fit, or a score is NaN.
    """
    targets, scores = np.asarray(targets), np.asarray(scores)
    if targets.ndim != 2 or targets.shape[1] != len(classes):
        raise UserError(f"targets must be [n, {len(classes)}], a column per class. Received: {targets.shape}")
    classes = [escaped(name) for name in classes]  # JSON holds no bytes that are not UTF-8
    area = macro_auroc(targets, scores)
    n_draws = int(np.clip(_DRAWN_CELLS / max(targets.size, 1), *_DRAWS))
    interval = bootstrap(
        lambda t, s: macro_auroc(t, s).value, targets, scores, np.asarray(groups, object), n_draws=n_draws, seed=seed
    )
    precision = classification.average_precision(targets, scores)
    thresholds, best_f1 = classification.best_f1(targets, scores)
    called = classification.classification_report(targets, scores, multi_label=multi_label)
    n_positives = targets.sum(axis=0)
    per_class = [
        {
            "name": name,
            "n_positives": int(n_positives[c]),
            "n_predicted": int(called.n_predicted[c]),
            "auroc": _plain(area.per_class[c]),
            "average_precision": _plain(precision[c]),
            **{key: _plain(getattr(called, key)[c]) for key in ("precision", "recall", "f1")},
            "best_f1": _plain(best_f1[c]),
            "threshold": _plain(thresholds[c]),
        }
        for c, name in enumerate(classes)
    ]
    right = classification.exact_match(targets, scores) if multi_label else classification.accuracy(targets, scores)
    share = "set of labels is exactly right at a threshold of 0.5" if multi_label else "highest score is a true class"
    metrics = {
        "macro_auroc": _plain(area.value),
        "macro_auroc_ci": [_plain(interval.low), _plain(interval.high)],
        "n_scored_classes": area.n_scored_classes,
        "skipped_classes": [classes[c] for c in area.skipped],
        "accuracy": _plain(right),
        "accuracy_is": f"share of segments whose {share}",
        "log_loss": _plain(classification.log_loss(targets, scores, multi_label=multi_label)),
        **{key: _plain(value) for key, value in called.macro.items()},
        **{f"weighted_{key}": _plain(value) for key, value in called.weighted.items()},
        "cmap": _plain(classification.cmap(targets, scores)),
        "no_call_average_precision": _plain(_no_call(targets, scores)) if multi_label else None,
        "n_segments": len(targets),
        "n_groups": len(set(groups)),
        "n_bootstrap": n_draws,
        "seed": seed,
        "per_class": per_class,
        "calibration": calibration_numbers(targets, scores, groups, seed=seed),
        "confusion": classification.confusion(targets, scores).tolist(),
    }
    return {**metrics, "remarks": remarks(metrics, multi_label=multi_label)}


def write_evaluation(
    folder: Path | str,
    table: ScoreTable,
    *,
    multi_label: bool,
    title: str,
    experiment: schema.Experiment | None = None,
    versions: dict[str, Any] | None = None,
    history: Sequence[Mapping[str, float]] = (),
    notes: Sequence[str] = (),
    events: Sequence[Clip] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Evaluate a table and write `metrics.json` and `report.html` into a folder, each whole or not at all.

    Other keys of an existing metrics.json are kept.

    Args:
        folder: Folder to write to.
        table: Scores and targets of one or more rows.
        multi_label: Whether rows may have several labels; gives the meaning of `accuracy` (`evaluate_scores`).
        title: Title of the page.
        experiment: Settings to show on the page. Default: None, none are shown.
        versions: Versions of the libraries to show. Default: None, those in use.
        history: One mapping per epoch for the training curves. Default: (), no curves.
        notes: Sentences for the top of the page. Default: ().
        events: Annotated events with times of the scored recordings. Default: (), windows are evaluated only.
        seed: Seed of the bootstrap. Default: 0.

    Returns:
        The metrics, as `evaluate_scores` returns them; with events also timed_events (`timed_numbers`).

    Raises:
        UserError: The table has no rows, or an existing metrics.json is not readable.
    """
    from birdnet_fs.reports.pages.evaluation import write_report

    folder = Path(folder)
    if not table.rows:
        raise UserError(f"There is nothing to evaluate for {folder}: the table of scores has no rows.")
    found = evaluate_scores(
        table.targets, table.scores, table.classes, table.groups, multi_label=multi_label, seed=seed
    )
    if timed := timed_numbers(table, events) if events else {}:
        found["timed_events"] = timed
        notes = (*notes, *timed_lines(timed))
    earlier = {key: value for key, value in stored_json(folder / METRICS).items() if key != "timed_events"}
    write_json(folder / METRICS, {**earlier, **found})
    write_report(
        folder / REPORT,
        title=title,
        metrics=found,
        history=history,
        confusion=None if multi_label else found["confusion"],
        experiment=experiment,
        versions=versions,
        notes=notes,
        table=table,
    )
    remember_metrics(folder)
    return found


def report_on_scores(
    run: Path | str, output: Path | str | None = None, *, scores: Path | None = None
) -> dict[str, Any]:
    """Evaluate the scores of a run and write `metrics.json` and `report.html`.

    Args:
        run: The run folder.
        output: Folder to write to. Default: None, the run folder.
        scores: The table of scores. Default: None, scores.csv in the run folder.

    Returns:
        The metrics, as `evaluate_scores` returns them.

    Raises:
        UserError: The folder is no run, holds no scores, or the scores are of other classes.
    """
    run = Path(run)
    opened = load_run(run)
    scores = scores or run / SCORES
    table = read_scores(scores)
    if table.classes != opened.classes:
        raise UserError(f"{scores} has other classes than {run / CLASSES}; delete it and evaluate again.")
    return write_evaluation(
        run if output is None else output,
        table,
        multi_label=opened.multi_label,
        title=opened.title,
        experiment=opened.experiment,
        versions=stored_json(run / VERSIONS) or None,
        history=read_history(run / HISTORY),
        notes=_left_out(scores.parent / HELD_OUT_LEDGER),
    )


def _left_out(ledger: Path) -> list[str]:
    """A sentence about held-out recordings that could not be read, from the ledger beside the scores."""
    if not ledger.is_file():
        return []
    try:
        with open(ledger, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["status"] == "quarantined"]
    except (csv.Error, UnicodeDecodeError, KeyError) as error:
        raise UserError(f"{escaped(ledger)} is damaged ({error!r}); delete it and evaluate again.") from None
    if not rows:
        return []
    first = f"{rows[0]['path']}: {rows[0]['reason']}"
    return [f"{len(rows)} of the held-out clips could not be read and are not in these numbers; the first is {first}"]


def stored_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.

    Returns:
        The object; {} when the file does not exist.

    Raises:
        UserError: The file is not readable, or holds no object.
    """
    if not path.is_file():
        return {}
    stored = read_json(path, "delete it and evaluate again", max_bytes=MAX_BYTES)
    if not isinstance(stored, dict):
        raise UserError(f"{path} must hold a JSON object; delete it and evaluate again.")
    return stored


def _no_call(targets: np.ndarray, scores: np.ndarray) -> float:
    """Average precision of "nothing calls", scored by how low the highest score is; nan where every row has a label."""
    empty = targets.max(axis=1, keepdims=True) <= 0
    return float(classification.average_precision(empty.astype(np.float32), -scores.max(axis=1, keepdims=True))[0])


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
