"""Write the estimates of a verified sample: estimates.csv."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.analysis.table_formats.text import comma_table
from birdnet_fs.analysis.verification.estimate import Estimate, StratumCounts, density_and_precision
from birdnet_fs.analysis.verification.sheet import count_verdicts, read_sample, read_verdicts
from birdnet_fs.analysis.verification.strata import BELOW
from birdnet_fs.core.files import write_text
from birdnet_fs.core.progress import say

ESTIMATES = "estimates.csv"
COLUMNS = (
    "label",
    "n_windows",
    "n_detected",
    "n_yes",
    "n_no",
    "n_unsure",
    "n_open",
    "density",
    "density_low",
    "density_high",
    "precision",
    "precision_low",
    "precision_high",
)


def write_estimates(folder: Path) -> list[dict[str, Any]]:
    """Estimate call density and precision of every class, and write them.

    Args:
        folder: Folder of a sample whose sheet is filled in; estimates.csv is written into it.

    Returns:
        Rows by COLUMNS; NaN where a stratum has no verdict yet. UserErrors of `read_sample`, `read_verdicts` and
        `count_verdicts` are passed on.
    """
    rows = []
    for label, (strata, verdicts) in count_verdicts(read_sample(folder), read_verdicts(folder)).items():
        density, precision = density_and_precision(strata)
        counts = [verdicts[word] for word in ("yes", "no", "unsure", "")]
        sizes = (sum(each.n_windows for each in strata), sum(s.n_windows for s in strata if s.number != BELOW))
        rows.append(dict(zip(COLUMNS, (label, *sizes, *counts, *density, *precision), strict=True)))
        _say_open(label, strata)
    text = comma_table(COLUMNS, ([_cell(row[name]) for name in COLUMNS] for row in rows))
    write_text(folder / ESTIMATES, text)
    return rows


def _say_open(label: str, strata: Sequence[StratumCounts]) -> None:
    empty = [each for each in strata if each.n_windows and not each.n_verified]
    if empty:
        say(f"{label}: {len(empty)} of {len(strata)} strata have no verdict of yes or no; no estimate is given yet.")


def _cell(value: object) -> object:
    return ("" if np.isnan(value) else f"{value:.6g}") if isinstance(value, float) else value


def interval_text(row: dict[str, Any], name: str) -> str:
    """An estimate and its interval for a terminal, as `0.120 (0.080 to 0.170)`.

    Args:
        row: A row of `write_estimates`.
        name: "density" or "precision".

    Returns:
        The text; "-" where there is no estimate.
    """
    found = Estimate(*(row[key] for key in (name, f"{name}_low", f"{name}_high")))
    return "-" if np.isnan(found.value) else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
