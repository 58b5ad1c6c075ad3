"""The page about a calibration: reliability before and after, thresholds, and false alarms on noise."""

from pathlib import Path
from typing import Any

from birdnet_fs import schema
from birdnet_fs.core.text import escaped
from birdnet_fs.inference.calibration.stored import Calibration, ClassThreshold
from birdnet_fs.reports.pages.figures import reliability_figure
from birdnet_fs.reports.pages.render import render

TEMPLATE = "calibration.html"
SHOWN_PRECISION = 0.9  # the thresholds of the nearest precision are listed first


def write_page(path: Path, calibration: Calibration, *, title: str, experiment: schema.Experiment | None) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        calibration: Calibration with its numbers, from `calibrate`.
        title: Name of the model.
        experiment: Settings of the run to show; None = no run.
    """
    from markupsafe import Markup

    about = calibration.about
    curves = {f"{when} calibration": about[when]["bins"] for when in ("before", "after")}
    precisions = sorted(calibration.thresholds, key=lambda p: (abs(p - SHOWN_PRECISION), p))
    render(
        path,
        TEMPLATE,
        title=f"{title}: calibration",
        experiment=experiment,
        versions=None,
        about=about,
        post=calibration.post,
        figure=Markup(reliability_figure(curves)),
        tables=[(p, list(_rows(calibration, calibration.thresholds[p]))) for p in precisions],
        given={p: sum(each.threshold is not None for each in calibration.thresholds[p]) for p in precisions},
    )


def _rows(calibration: Calibration, thresholds: tuple[ClassThreshold, ...]) -> list[dict[str, Any]]:
    classes = calibration.about["classes"]
    rows = [
        {**vars(each), "name": escaped(name), "n_positives": row["n_positives"]}
        for name, each, row in zip(calibration.classes, thresholds, classes, strict=True)
    ]
    return sorted(rows, key=lambda row: (row["threshold"] is None, row["name"]))
