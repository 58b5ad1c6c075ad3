"""Calibrate a model: maps, thresholds, false alarms and errors, written as a copy of the model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis.calibration.false_alarms import (
    BACKGROUND,
    FalseAlarms,
    NoiseScores,
    count_false_alarms,
    score_background,
    score_noise,
)
from birdnet_fs.analysis.calibration.fitting import FittedMaps, fit_maps
from birdnet_fs.analysis.calibration.thresholds import CONFIDENCE, check_precisions, choose_thresholds
from birdnet_fs.analysis.postprocessing.chain import Chain, Windows, make_chain
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.score_table import ScoreTable
from birdnet_fs.inference.activations import to_logits, to_probabilities
from birdnet_fs.inference.calibration.apply import calibrated
from birdnet_fs.inference.calibration.stored import Calibration
from birdnet_fs.inference.engine import Engine
from birdnet_fs.reports.calibration.errors import calibration_numbers
from birdnet_fs.reports.calibration.labeled_scores import CalibrationScores, post_processed

PRECISIONS = (0.7, 0.8, 0.9, 0.95)
NOISE_S = 180.0  # of each kind


@dataclass(frozen=True)
class CalibrationOptions:
    """Options of a calibration.

    Attributes:
        method: Kind of map, one of `maps.METHODS`. Default: "platt".
        precisions: Wanted precisions of thresholds, each above 0 and below 1. Default: PRECISIONS.
        confidence: Confidence with which the thresholds reach the precision (`choose_thresholds`), 0.5 to below 1.
            Default: CONFIDENCE.
        post: Chain of post-processing steps that the thresholds are for. Default: "", none.
        noise_s: Seconds of synthetic noise of each kind; 0 = none. Default: NOISE_S.
        background: Recording or folder without any of the classes. Default: None.
        seed: Seed of folds, noise and bootstrap. Default: 0.
    """

    method: str = "platt"
    precisions: tuple[float, ...] = PRECISIONS
    confidence: float = CONFIDENCE
    post: str = ""
    noise_s: float = NOISE_S
    background: Path | None = None
    seed: int = 0


def calibrate(engine: Engine, labeled: CalibrationScores, options: CalibrationOptions) -> Calibration:
    """Calibrate a model on labeled windows.

    Args:
        engine: The model, without calibration.
        labeled: Scores of the windows.
        options: Kind of map, wanted precisions, post-processing and noise.

    Returns:
        The calibration, with numbers for its page.

    Raises:
        UserError: The model is calibrated already, there are too few labels, or an option is wrong.
    """
    if engine.calibration is not None:
        raise UserError("The model is calibrated already; calibrate the one that it was made of.")
    check_precisions(options.precisions, options.confidence)
    chain = make_chain(options.post, engine.classes)
    table = labeled.table
    log_odds = to_logits(table.scores, "sigmoid")
    fitted = fit_maps(log_odds, table.targets, table.groups, options.method, seed=options.seed)
    scores = to_probabilities(fitted.maps(log_odds), "sigmoid").astype(np.float32)
    if chain.text:
        scores = post_processed(scores, table.rows, labeled.hop_s, chain)
    thresholds = choose_thresholds(
        scores, table.targets, table.groups, sorted(options.precisions), confidence=options.confidence
    )
    found = Calibration(engine.classes, fitted.maps, thresholds, chain.text, chain.identity, labeled.hop_s)
    noise = _score_noise(calibrated(engine, found), labeled.hop_s, options, chain)
    about = {
        "source": labeled.source,
        "n_windows": len(table.rows),
        "n_recordings": len(set(table.groups)),
        "method": options.method,
        "prior": list(fitted.prior),
        "confidence": options.confidence,
        "seed": options.seed,
        "classes": _classes(table, fitted),
        "before": calibration_numbers(table.targets, table.scores, table.groups, seed=options.seed),
        "after": calibration_numbers(
            table.targets, to_probabilities(fitted.held_out, "sigmoid"), table.groups, seed=options.seed
        ),
        "false_alarms": {
            f"{precision:g}": _false_alarms(count_false_alarms(noise, found.scores_for(precision)), engine)
            for precision in thresholds
        },
    }
    return replace(found, about=about)


def _score_noise(engine: Engine, hop_s: float, options: CalibrationOptions, chain: Chain) -> dict[str, NoiseScores]:
    def post(scores: NDArray, path: Path | None) -> NDArray:
        return chain(scores, Windows(path, np.arange(len(scores), dtype=np.float64) * hop_s))

    given: dict[str, Any] = {"post": post if chain.text else None, "hop_s": min(hop_s, engine.segment_s)}
    found = score_noise(engine, options.noise_s, seed=options.seed, **given)
    if options.background is not None:
        found[BACKGROUND] = score_background(engine, options.background, **given)
    return found


def _false_alarms(found: Mapping[str, FalseAlarms], engine: Engine) -> dict[str, Any]:
    return {
        kind: {
            "n": each.n,
            "hours": each.hours,
            "per_hour": each.per_hour,
            "upper_per_hour": each.upper_per_hour,
            "most": escaped(engine.classes[int(each.by_class.argmax())]) if each.n else "",
        }
        for kind, each in found.items()
    }


def _classes(table: ScoreTable, fitted: FittedMaps) -> list[dict[str, Any]]:
    groups = np.array(table.groups, object)
    return [
        {
            "name": escaped(name),
            "n_positives": int(table.targets[:, c].sum()),
            "n_recordings": len(set(groups[table.targets[:, c] > 0])),
            "method": fitted.method[c],
        }
        for c, name in enumerate(table.classes)
    ]
