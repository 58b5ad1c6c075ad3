"""The report of an evaluation as one HTML file: warnings, numbers, curves, confusions, and mistakes to listen to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.text import escaped, escaped_lines
from birdnet_fs.data.score_table import ScoreTable
from birdnet_fs.reports.pages.mistakes import find_mistakes, mistake_rows
from birdnet_fs.reports.pages.render import render

TEMPLATE = "evaluation.html"
N_MIXED_UP = 10


def write_report(
    path: Path | str,
    *,
    title: str,
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, float]] = (),
    confusion: Sequence[Sequence[int]] | None = None,
    experiment: schema.Experiment | None = None,
    versions: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    table: ScoreTable | None = None,
) -> None:
    """Write the report of one evaluation.

    Args:
        path: The HTML file; replaced whole.
        title: Above the page; the name of the run.
        metrics: The metrics, from `evaluate_scores`.
        history: One mapping per epoch, `{"epoch": 1, "loss": 0.7, ...}`. Default: (), no curves.
        confusion: [n_classes, n_classes] counts, true class first. Default: None, no figure.
        experiment: Settings to show. Default: None, none.
        versions: Versions of the libraries. Default: None, those in use.
        notes: Sentences for the top of the page. Default: ().
        table: Scores behind the metrics, for curves and mistakes. Default: None, neither.
    """
    from markupsafe import Markup

    from birdnet_fs.reports.pages.figures import confusion_figure, curves_figure, history_figure, reliability_figure

    metrics = {**metrics, "per_class": [{**row, "name": escaped(row["name"])} for row in metrics["per_class"]]}
    names = [row["name"] for row in metrics["per_class"]]
    aurocs = [row["auroc"] for row in metrics["per_class"]]
    multi_label = confusion is None
    mistakes = find_mistakes(table, multi_label=multi_label) if table else []
    counts = np.array(confusion if confusion is not None else [], dtype=int)
    render(
        path,
        TEMPLATE,
        title=title,
        experiment=experiment,
        versions=versions,
        metrics=metrics,
        notes=[escaped_lines(note) for note in notes],
        warnings=[escaped_lines(remark) for remark in metrics.get("remarks", ())],
        classes=sorted(metrics["per_class"], key=_worst_first),
        skipped=_skipped(metrics),
        verdict=_verdict(metrics),
        multi_label=multi_label,
        confusion=Markup(confusion_figure(counts, names)) if counts.any() else "",
        mixed_up=_mixed_up(counts, names) if counts.any() else [],
        history=Markup(history_figure(history)) if history else "",
        curves=Markup(curves_figure(table.targets, table.scores, names, aurocs)) if table else "",
        mistakes=mistake_rows(table, mistakes, _listening_rate(experiment)) if table else [],
        reliability=Markup(reliability_figure({"": metrics["calibration"]["bins"]})),
    )


def _listening_rate(experiment: schema.Experiment | None) -> int:
    """Sample rate of the pictures and sounds, Hz: that of the model, or one that holds birds."""
    return experiment.frontend.sample_rate_hz if experiment else 32_000


def _worst_first(row: Mapping[str, Any]) -> tuple[bool, float, str]:
    return (row["auroc"] is None, row["auroc"] or 0.0, row["name"])


def _verdict(metrics: Mapping[str, Any]) -> str:
    """A sentence on the macro AUROC and its interval."""
    value = metrics["macro_auroc"]
    if value is None:
        return "No species could be scored: each needs at least one segment with it and one without it."
    low, high = metrics["macro_auroc_ci"]
    sentence = (
        "Take one segment in which a species calls and one in which it does not: the model gives the first the higher "
        f"score {100 * value:.1f} times out of 100, averaged over {metrics['n_scored_classes']} species. "
        "Guessing would reach 50, perfection 100."
    )
    if low is None:
        return sentence + " All segments come from one recording, so the numbers do not describe other recordings."
    return (
        f"{sentence} With other recordings of the same kind the number would probably lie between {100 * low:.1f} and "
        f"{100 * high:.1f} (95 % confidence interval, from redrawing the {metrics['n_groups']} recordings or "
        f"individuals {metrics['n_bootstrap']} times)."
    )


def _skipped(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(species, reason) of the species without a score."""
    rows = [row for row in metrics["per_class"] if row["auroc"] is None]
    return [
        (row["name"], "no segment here holds it" if row["n_positives"] == 0 else "every segment here holds it")
        for row in rows
    ]


def _mixed_up(counts: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent confusions, most frequent first."""
    totals = counts.sum(axis=1)
    wrong = counts * (1 - np.eye(len(names), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:N_MIXED_UP]
    pairs = [divmod(int(cell), len(names)) for cell in order if wrong.flat[cell]]
    return [{"true": names[i], "called": names[j], "n": int(counts[i, j]), "total": int(totals[i])} for i, j in pairs]
