"""Fit a head: choose what the settings leave open on grouped training folds, fit it to all clips, calibrate it."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.training.encoder_heads.data import HeadData, check_data
from birdnet_fs.training.encoder_heads.folds import inner_folds, out_of_fold
from birdnet_fs.training.encoder_heads.linear import solve_linear
from birdnet_fs.training.encoder_heads.prototypes import solve_prototypes
from birdnet_fs.training.encoder_heads.scoring import calibrate, held_out_score
from birdnet_fs.training.encoder_heads.solution import WITH_SCALE, Solution
from birdnet_fs.training.encoder_heads.transform import fit_transform

L2 = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4)  # tried for head=linear, of embeddings with a mean squared length of 1
DEFAULT_L2 = 1e-3
Solve = Callable[..., list[Solution]]


@dataclass(frozen=True)
class FittedHead:
    """A head that was fitted to embeddings.

    Attributes:
        model: The settings, with all that was chosen filled in: head, encoder_head.transform, encoder_head.l2,
            logit_scale, distance.
        weights: float32 arrays by variable path of `on_embedding.build_encoder_head`.
        history: Rows for history.csv.
        choices: What was tried on grouped training folds, with scores; {} when nothing was chosen.
        remarks: Sentences for the report and the terminal.
    """

    model: schema.Model
    weights: dict[str, np.ndarray]
    history: list[dict[str, float]]
    choices: dict[str, Any]
    remarks: list[str]


def fit_head(
    data: HeadData, experiment: schema.Experiment, classes: Sequence[str], *, validation: HeadData | None = None
) -> FittedHead:
    """Fit the head of the settings to embeddings; UserErrors of `check_data` are passed on.

    Args:
        data: The training clips.
        experiment: Uses `model.head`, `model.encoder_head`, `model.logit_scale`, `data.multi_label`, `training.loss`
            and `seed`.
        classes: Class names in the order of the targets.
        validation: Clips to report on in the history; nothing is chosen by them. None: no such columns.

    Returns:
        The head.

    Raises:
        UserError: The head or the loss does not exist for embeddings.
    """
    started = time.monotonic()
    check_data(data, len(classes))
    if validation is not None:
        check_data(validation, len(classes), "validation")
    model, multi_label = experiment.model, experiment.data.multi_label
    if experiment.training.loss.name not in ("auto", "bce" if multi_label else "ce"):
        raise UserError(
            "Heads on an encoder are fitted with cross-entropy; set training.loss=auto. "
            f"Received: {experiment.training.loss.name}"
        )
    if model.head not in SOLVERS:
        raise UserError(f"model.head on an encoder must be one of {', '.join(SOLVERS)}. Received: {model.head}")
    remarks: list[str] = []
    absent = [name for name, column in zip(classes, data.targets.T, strict=True) if not (column > 0).any()]
    if absent:
        remarks.append(f"No training clip has the label {', '.join(absent)}; such classes always score low.")
    candidates, choices = _candidates(data, model), dict[str, Any]()
    is_given = model.encoder_head.l2 if model.head == "linear" else model.logit_scale
    folds = [] if is_given else inner_folds(data, experiment.seed)
    if folds:
        chosen, (scale, shift), choices = _choose(candidates, data, folds, experiment)
        solution = _solve(data, [chosen], experiment)[0].rescaled(scale, shift)
    else:
        solution = _solve(data, [_default(candidates)], experiment)[0]
    if not folds and not is_given:
        remarks.append(
            "No group of recordings can be held out of the training clips (each class has one group), so nothing was "
            "chosen on folds, and the scale of the probabilities is that of the training clips."
        )
        if model.head in WITH_SCALE:
            solution = solution.rescaled(*calibrate(solution.score(data), data, multi_label=multi_label))
    row = {"epoch": 1.0, **_metrics("train", solution, data, multi_label)}
    if validation is not None:
        row |= _metrics("val", solution, validation, multi_label)
    row["seconds"] = round(time.monotonic() - started, 3)
    return FittedHead(solution.model, solution.weights, [row], choices, remarks)


def _candidates(data: HeadData, model: schema.Model) -> list[schema.Model]:
    """The settings to choose from."""
    settings, negative = model.encoder_head, bool((data.features < 0).any())
    if settings.transform == "sqrt" and negative:
        raise UserError(
            "model.encoder_head.transform=sqrt needs embeddings of 0 or more, and this encoder gives negative ones; "
            "set it to none or auto."
        )
    root = settings.transform if settings.transform != "auto" else "none" if negative else "sqrt"
    grid = L2 if model.head == "linear" and not settings.l2 else (settings.l2,)
    heads = [dataclasses.replace(settings, transform=root, l2=l2) for l2 in grid]
    return [dataclasses.replace(model, encoder_head=head) for head in heads]


def _default(candidates: Sequence[schema.Model]) -> schema.Model:
    """The candidate whose regularization is nearest to the default."""
    return min(candidates, key=lambda model: abs(model.encoder_head.l2 - DEFAULT_L2))


def _solve(data: HeadData, candidates: Sequence[schema.Model], experiment: schema.Experiment) -> list[Solution]:
    """Fit every candidate to the data; they have one head and one transform."""
    (solve, each), root = SOLVERS[candidates[0].head], candidates[0].encoder_head.transform == "sqrt"
    return solve(data, fit_transform(data, root=root, each=each and not root), candidates, experiment)


def _choose(
    candidates: Sequence[schema.Model], data: HeadData, folds: Sequence[NDArray], experiment: schema.Experiment
) -> tuple[schema.Model, tuple[float, NDArray], dict[str, Any]]:
    """The candidate with the lowest cross-entropy of held-out clips after calibration, and all scores."""
    multi_label = experiment.data.multi_label
    held, logits = out_of_fold(lambda part: _solve(part, candidates, experiment), data, folds)
    rows, calibrations = [], []
    for model, raw in zip(candidates, logits, strict=True):
        scale, shift = calibrate(raw, held, multi_label=multi_label)
        score = held_out_score(raw * scale + shift, held, multi_label=multi_label)
        settings = {"head": model.head, "transform": model.encoder_head.transform, "l2": model.encoder_head.l2}
        rows.append({**settings, **finite(dataclasses.asdict(score))})
        calibrations.append((scale, shift))
    best = min(range(len(rows)), key=lambda i: rows[i]["log_loss"])
    return candidates[best], calibrations[best], {"n_folds": len(folds), "candidates": rows}


def held_out_logits(
    fitted: FittedHead, data: HeadData, experiment: schema.Experiment
) -> tuple[NDArray[np.int64], NDArray]:
    """Calibrated logits of training clips, by heads of the same settings that were not fitted to them.

    Args:
        fitted: A head that was fitted to `data`.
        data: The training clips.
        experiment: Its experiment.

    Returns:
        Numbers of the clips that can be held out, and the logits of their windows [n_windows, n_classes].
    """
    folds = inner_folds(data, experiment.seed)
    if not folds:
        return np.zeros(0, np.int64), np.zeros((0, data.targets.shape[1]))
    held, [raw] = out_of_fold(lambda part: _solve(part, [fitted.model], experiment), data, folds)
    scale, shift = calibrate(raw, held, multi_label=experiment.data.multi_label)
    return np.sort(np.concatenate(folds)), raw * scale + shift


def _metrics(stage: str, solution: Solution, data: HeadData, multi_label: bool) -> dict[str, float]:
    logits = solution.score(data)
    score = held_out_score(logits, data, multi_label=multi_label)
    found = {f"{stage}_loss": score.log_loss, f"{stage}_macro_auroc": score.macro_auroc}
    if not multi_label:
        found[f"{stage}_acc"] = score.accuracy
    return finite(found)


def finite(values: dict[str, float]) -> dict[str, float]:
    """The values that are finite, which JSON can hold."""
    return {name: value for name, value in values.items() if np.isfinite(value)}


SOLVERS: dict[str, tuple[Solve, bool]] = {"linear": (solve_linear, True), "prototypes": (solve_prototypes, False)}
