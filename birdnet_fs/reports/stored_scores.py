"""Whether the scores.csv in a folder is of the model there: `scores.json` beside it holds the hashes of both.

It holds the identity of the model (SHA-256 of weights, settings and classes), and the SHA-256 of the list of clips, of
scores.csv and, once they are computed, of metrics.json. Scores of other weights, copied, edited or written by a version
that wrote no scores.json are scored again.
"""

import json
from pathlib import Path
from typing import Any

from birdnet_fs.core.files import sha256, write_json
from birdnet_fs.data.partition import PARTITION
from birdnet_fs.data.score_table import ScoreTable, write_scores
from birdnet_fs.runs.run import CALIBRATION, ENSEMBLE, run_identity

METRICS, REPORT, SCORES = "metrics.json", "report.html", "scores.csv"
ABOUT_SCORES = "scores.json"


def write_model_scores(folder: Path, table: ScoreTable, model: Path) -> None:
    """Write scores.csv and scores.json.

    Args:
        folder: Folder to write to.
        table: Scores of the held-out clips.
        model: The run folder or ensemble that gave them.
    """
    (folder / ABOUT_SCORES).unlink(missing_ok=True)  # none may exist while the scores are of another model
    write_scores(folder / SCORES, table)
    write_json(folder / ABOUT_SCORES, {"format": 1, **_model(model), "scores": sha256(folder / SCORES)})


def remember_metrics(folder: Path) -> None:
    """Store in scores.json that metrics.json was computed from scores.csv; nothing without scores.json."""
    about = _about(folder)
    if about and about["scores"] == sha256(folder / SCORES):
        write_json(folder / ABOUT_SCORES, {**about, "metrics": sha256(folder / METRICS)})


def has_scores(model: Path) -> bool:
    """Whether the scores.csv in a run folder or ensemble is of the model and clips there."""
    about = _about(model)
    try:
        return bool(about) and {**about, **_model(model), "scores": sha256(model / SCORES)} == about
    except OSError:
        return False  # no whole model


def stored_metrics(model: Path) -> dict[str, Any]:
    """Read the metrics.json of a run whose evaluation is complete.

    Args:
        model: A run folder.

    Returns:
        The metrics; {} when scores.csv is not of the weights there, metrics.json not of these scores, or a file is
        missing.
    """
    if not has_scores(model) or not all((model / name).is_file() for name in (METRICS, REPORT)):
        return {}
    if _about(model).get("metrics") != sha256(model / METRICS):
        return {}
    found: dict[str, Any] = json.loads((model / METRICS).read_text(encoding="utf-8"))
    return found


def _model(model: Path) -> dict[str, str]:
    names = [name for name in (ENSEMBLE, CALIBRATION) if (model / name).is_file()]
    identity = " ".join(sha256(model / name) for name in names) if ENSEMBLE in names else run_identity(model)
    clips = model / PARTITION
    return {"model": identity, "clips": sha256(clips) if clips.is_file() else ""}


def _about(folder: Path) -> dict[str, Any]:
    """The content of scores.json; {} when it or scores.csv is missing, or it is damaged."""
    try:
        found = json.loads((folder / ABOUT_SCORES).read_text(encoding="utf-8"))
        known = {"format", "model", "clips", "scores"} <= found.keys() and found["format"] == 1
        return found if known and (folder / SCORES).is_file() else {}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
