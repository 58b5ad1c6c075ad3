"""Fit a head: choose what the settings leave open on grouped training folds, fit it to all clips, calibrate it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.training.encoder_heads.choosing import candidates, choose, default, finite, solve
from birdnet_fs.training.encoder_heads.data import HeadData, check_data
from birdnet_fs.training.encoder_heads.folds import inner_folds
from birdnet_fs.training.encoder_heads.own_scores import DEFAULT_WEIGHT, OwnScores
from birdnet_fs.training.encoder_heads.scoring import calibrate, held_out_score
from birdnet_fs.training.encoder_heads.smote import check_smote
from birdnet_fs.training.encoder_heads.solution import WITH_SCALE, Solution


@dataclass(frozen=True)
class FittedHead:
    """A head that was fitted to embeddings.

    Attributes:
        model: The settings, with all that was chosen filled in: head, encoder_head.transform, encoder_head.l2,
            logit_scale, distance.
        weights: float32 arrays by variable path of `on_embedding.build_encoder_head`.
        history: Rows for history.csv.
        choices: Candidates that were compared on grouped training folds, with their scores; {} when nothing was chosen.
        remarks: Sentences for the report and the terminal.
    """

    model: schema.Model
    weights: dict[str, np.ndarray]
    history: list[dict[str, float]]
    choices: dict[str, Any]
    remarks: list[str]


def fit_head(
    data: HeadData, experiment: schema.Experiment, classes: Sequence[str], own: OwnScores | None = None
) -> FittedHead:
    """Fit the head of the settings to embeddings; UserErrors of `check_data` and `candidates` are passed on.

    What the settings leave open is chosen on grouped folds of the training clips, and the logits are calibrated on the
    same folds. Then the head is fitted to all training clips, and own scores are blended in.

    Args:
        data: The training clips.
        experiment: Uses `model`, `data.multi_label`, `training.loss` and `seed`.
        classes: Class names in the order of the targets.
        own: Own scores of the encoder to blend in, for the windows of `data`. Default: None.

    Returns:
        The head; with `own`, its layer "logits" reads embeddings and own scores, the own scores last.

    Raises:
        UserError: The loss does not exist for embeddings.
    """
    started = time.monotonic()
    check_data(data.with_views(), len(classes))
    if experiment.model.encoder_head.smote:
        check_smote()
    multi_label = experiment.data.multi_label
    if experiment.training.loss.name not in ("auto", "bce" if multi_label else "ce"):
        raise UserError(
            "Heads on an encoder are fitted with cross-entropy; set training.loss=auto. "
            f"Received: {experiment.training.loss.name}"
        )
    remarks, choices = _about(data, classes), dict[str, Any]()
    found, folds = candidates(data, experiment.model), inner_folds(data, experiment.seed)
    weight = DEFAULT_WEIGHT
    if folds:
        chosen = choose(found, data, folds, experiment, own)
        weight = chosen.weight
        solution = solve(data, [chosen.model], experiment)[0].rescaled(chosen.scale, chosen.shift)
        choices, remarks = chosen.choices, [*remarks, *([chosen.remark] if chosen.remark else [])]
    else:
        solution = solve(data, [default(found)], experiment)[0]
        keep = experiment.model.logit_scale > 0 or solution.model.head not in WITH_SCALE
        calibration = calibrate(solution.score(data), data, multi_label=multi_label, keep_scale=keep)
        solution = solution.rescaled(*calibration)
        remarks.append(
            "No group of recordings can be held out of the training clips (each class has one group), so nothing was "
            f"chosen on folds: the head is {solution.model.head}, and its probabilities fit the training clips."
        )
    weights = solution.weights
    if own:
        choices = choices or {"own_scores": {"weight": weight, "candidates": []}}
        weights = own.in_weights(weights, weight)
        where = "the best on grouped training folds" if folds else "nothing could be held out to choose this"
        remarks.append(
            f"The encoder's own scores of {len(own.places)} of {len(classes)} classes count {weight:.0%} in the logits "
            f"({where})."
        )
    history = [dict(row) for row in solution.history] or [{"epoch": 1.0}]
    history[-1] = {**_metrics(solution, data, multi_label), **history[-1]}
    history[-1]["seconds"] = round(time.monotonic() - started, 3)
    return FittedHead(solution.model, weights, history, choices, remarks)


def _about(data: HeadData, classes: Sequence[str]) -> list[str]:
    """Sentences on what is unusual about the training clips."""
    remarks = []
    absent = [name for name, column in zip(classes, data.targets.T, strict=True) if not (column > 0).any()]
    if absent:
        remarks.append(f"No training clip has the label {', '.join(absent)}; such classes always score low.")
    if (data.embeddings == data.embeddings[0]).all():
        remarks.append("All embeddings of the training clips are equal, so every clip gets the same scores.")
    return remarks


def _metrics(solution: Solution, data: HeadData, multi_label: bool) -> dict[str, float]:
    score = held_out_score(solution.score(data), data, multi_label=multi_label)
    found = {"train_loss": score.log_loss, "train_macro_auroc": score.macro_auroc, "train_acc": score.accuracy}
    return finite(found)
