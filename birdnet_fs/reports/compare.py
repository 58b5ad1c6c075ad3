"""Evaluations side by side, and the gap between the most flattering and the hardest split.

Held-out clips of known recordings, clips of other recordings at known sites, and clips of other sites measure different
things; the difference is the part of a score that is lost at a new site.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.reports.evaluate import stored_json
from birdnet_fs.reports.stored_scores import METRICS

KEYS = ("macro_auroc", "cmap", "accuracy")


@dataclass(frozen=True)
class ComparedEvaluation:
    """The headline numbers of one evaluation.

    Attributes:
        name: Name from the command line.
        values: Key of KEYS -> metric in 0..1; None where it is undefined.
        interval: 95 % interval of the macro AUROC by groups; (None, None) where it is undefined.
        n_rows: Scored clips or segments.
        n_groups: Number of their recordings, individuals or sites.
    """

    name: str
    values: Mapping[str, float | None]
    interval: tuple[float | None, float | None]
    n_rows: int
    n_groups: int


def read_evaluations(folders: Mapping[str, Path]) -> list[ComparedEvaluation]:
    """Read the metrics of evaluations.

    Args:
        folders: Name -> folder with metrics.json (of evaluate, train or cv); two or more.

    Returns:
        The evaluations in order.

    Raises:
        UserError: There are fewer than two, or a folder holds no metrics.
    """
    if len(folders) < 2:
        raise UserError(f"Two evaluations or more were expected, as NAME=FOLDER. Received: {len(folders)}")
    found = []
    for name, folder in folders.items():
        metrics = stored_json(folder / METRICS)
        if not {*KEYS, "macro_auroc_ci", "n_segments", "n_groups"} <= metrics.keys():
            raise UserError(
                f"{escaped(folder)} must hold the {METRICS} of birdnet-fs evaluate, train or cv; evaluate it first."
            )
        low, high = metrics["macro_auroc_ci"]
        values = {key: metrics[key] for key in KEYS}
        found.append(ComparedEvaluation(name, values, (low, high), metrics["n_segments"], metrics["n_groups"]))
    return found


def comparison_lines(evaluations: list[ComparedEvaluation]) -> list[str]:
    """Lines for the terminal: the gap first, then a table.

    Args:
        evaluations: Two or more.

    Returns:
        The lines.
    """
    lines = []
    defined = [(value, escaped(each.name)) for each in evaluations if (value := each.values["macro_auroc"]) is not None]
    if len(defined) > 1:
        (high, best), (low, worst) = max(defined), min(defined)
        lines.append(
            f"gap {high - low:.3f} macro AUROC, from {best} {high:.3f} to {worst} {low:.3f}; where recordings will be "
            f"as new as in {worst}, expect {low:.3f}"
        )
    if len({each.n_rows for each in evaluations}) > 1:
        lines.append(
            "The evaluations are not of the same number of clips, so a part of the gap may come from other clips."
        )
    width = max(len(escaped(each.name)) for each in evaluations)
    lines.append(f"{'':{width}}  macro AUROC (95 %)       cmAP  accuracy   clips  groups")
    for each in evaluations:
        lower, upper = each.interval
        interval = f"({lower:.3f} to {upper:.3f})" if lower is not None and upper is not None else ""
        values = [_shown(each.values[key]) for key in KEYS]
        lines.append(
            f"{escaped(each.name):{width}}  {values[0]} {interval:18} {values[1]}  {values[2]:>8} {each.n_rows:7d} "
            f"{each.n_groups:7d}"
        )
    return lines


def _shown(value: float | None) -> str:
    return "    -" if value is None else f"{value:.3f}"
