"""Choose a head, its settings and the weight of the encoder's own scores on grouped folds of the training clips.

Candidates are compared by the cross-entropy of the held-out clips where each clip has one label, and by their macro
AUROC where a clip may have several: there, most of the cross-entropy is that of classes that are absent. Heads that are
about as good (TIES) as the best are ties, of which the simplest is chosen. Every candidate is calibrated before it is
compared (scoring.py), so that a head is not chosen for the scale of its logits. Own scores are blended into each
candidate with the weight that is best for it (own_scores.py).
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.training.encoder_heads.cosine import solve_cosine
from birdnet_fs.training.encoder_heads.data import HeadData
from birdnet_fs.training.encoder_heads.folds import out_of_fold
from birdnet_fs.training.encoder_heads.gradient import solve_by_gradient
from birdnet_fs.training.encoder_heads.linear import solve_linear
from birdnet_fs.training.encoder_heads.own_scores import WEIGHTS, OwnScores
from birdnet_fs.training.encoder_heads.prototypes import solve_prototypes
from birdnet_fs.training.encoder_heads.scoring import calibrate, held_out_score
from birdnet_fs.training.encoder_heads.smote import with_smote
from birdnet_fs.training.encoder_heads.solution import Solution
from birdnet_fs.training.encoder_heads.transform import fit_transform

DEFAULT_L2, DEFAULT_SCALE = 1e-3, 16.0  # where there are no folds
DIGITS = 9  # of a score: equal areas differ by roundings
TIES = {"macro_auroc": 0.002, "log_loss": 0.005}  # differences that count as none


@dataclass(frozen=True)
class Kind:
    """Method by which a head is fitted.

    Attributes:
        solve: Fits candidates: (data, transform, candidates, experiment) -> solutions.
        each: Whether each dimension is divided by its own deviation, unless square roots are taken.
        reads_tokens: Whether the head reads tokens where there are any, and not their mean.
        needs_tokens: Whether it needs tokens.
        l2: Regularizations to choose from.
        scales: Logit scales to choose from.
    """

    solve: Callable[..., list[Solution]]
    each: bool = False
    reads_tokens: bool = False
    needs_tokens: bool = False
    l2: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()


KINDS: dict[Any, Kind] = {  # the simplest first
    "prototypes": Kind(solve_prototypes),
    "linear": Kind(solve_linear, each=True, l2=(1e-2, 3e-3, 1e-3, 3e-4, 1e-4)),
    "cosine": Kind(solve_cosine, scales=(4.0, 8.0, 16.0, 32.0)),
    "probe": Kind(solve_cosine, scales=(8.0, 32.0), reads_tokens=True),
    "mlp": Kind(solve_by_gradient, each=True),
    "attentive": Kind(solve_by_gradient, each=True, reads_tokens=True, needs_tokens=True),
}


@dataclass(frozen=True, eq=False)
class Chosen:
    """Settings and calibration that were chosen on folds.

    Attributes:
        model: The settings.
        scale: Calibration of its logits, a factor.
        shift: Calibration of its logits [n_classes].
        choices: JSON object of the candidates that were compared; {} where there was one candidate and no own scores.
        remark: A sentence; "" where there was one candidate.
        weight: Weight of the encoder's own scores, 0..1; 0 without them.
    """

    model: schema.Model
    scale: float
    shift: NDArray[np.float64]
    choices: dict[str, Any]
    remark: str
    weight: float = 0.0


def candidates(data: HeadData, model: schema.Model) -> list[schema.Model]:
    """The settings to choose from.

    Args:
        data: The training data.
        model: The settings as given: `head`, `logit_scale`, `encoder_head.transform` and `encoder_head.l2` may be left
            open.

    Returns:
        Settings with nothing left open, those of one head in a row, the simplest head first.

    Raises:
        UserError: The head does not exist here, needs tokens, or square roots cannot be taken.
    """
    settings, negative = model.encoder_head, bool((data.with_views().features < 0).any())
    if settings.transform == "sqrt" and negative:
        raise UserError(
            "model.encoder_head.transform=sqrt needs embeddings of 0 or more, and this encoder gives negative ones; "
            "set it to none or auto."
        )
    if model.head != "auto" and model.head not in KINDS:
        raise UserError(f"model.head on an encoder must be one of {', '.join(KINDS)}, auto. Received: {model.head}")
    if model.head == "attentive" and not data.has_tokens:
        raise UserError(
            "model.head=attentive needs tokens of the encoder [n_windows, n_tokens, width], and there are embeddings "
            f"{list(data.features.shape)}; set model.head=auto, linear or probe."
        )
    if settings.transform == "auto":
        settings = dataclasses.replace(settings, transform="none" if negative else "sqrt")
    found = []
    for head, kind in KINDS.items():
        if model.head not in (head, "auto") or (kind.needs_tokens and not data.has_tokens):
            continue
        for l2 in (settings.l2,) if settings.l2 or not kind.l2 else kind.l2:
            for scale in (model.logit_scale,) if model.logit_scale or not kind.scales else kind.scales:
                chosen = dataclasses.replace(settings, l2=l2)
                found.append(dataclasses.replace(model, head=head, logit_scale=scale, encoder_head=chosen))
    return found


def default(found: Sequence[schema.Model]) -> schema.Model:
    """The candidate of the simplest head with about DEFAULT_L2 and DEFAULT_SCALE."""
    return min(
        (model for model in found if model.head == found[0].head),
        key=lambda model: (abs(model.encoder_head.l2 - DEFAULT_L2), abs(model.logit_scale - DEFAULT_SCALE)),
    )


def solve(data: HeadData, found: Sequence[schema.Model], experiment: schema.Experiment) -> list[Solution]:
    """Fit candidates.

    Args:
        data: The training data, to which and to whose views they are fitted.
        found: The candidates, those of one head in a row, with one transform.
        experiment: Experiment whose `model`, `data.multi_label`, `training.loss` and `seed` are used.

    Returns:
        One solution for each candidate.
    """
    solutions: list[Solution] = []
    data = with_smote(data, experiment.seed) if experiment.model.encoder_head.smote else data.with_views()
    for head, same in groupby(found, lambda model: model.head):
        models = list(same)
        kind, root = KINDS[head], models[0].encoder_head.transform == "sqrt"
        on_tokens = kind.reads_tokens and data.has_tokens
        transform = fit_transform(data, root=root, each=kind.each and not root, tokens=on_tokens)
        solutions += kind.solve(data, transform, models, experiment)
    return solutions


def choose(
    found: Sequence[schema.Model],
    data: HeadData,
    folds: Sequence[NDArray],
    experiment: schema.Experiment,
    own: OwnScores | None = None,
) -> Chosen:
    """Compare candidates on folds.

    Args:
        found: The candidates.
        data: The training data.
        folds: Numbers of the clips that are held out, an array [n] for each fold (`inner_folds`).
        experiment: Experiment whose `model`, `data.multi_label`, `training.loss` and `seed` are used. With
            `model.logit_scale` above 0 the scale is kept as it is.
        own: Own scores of the encoder to blend in, for the windows of `data`. Default: None.

    Returns:
        The choice, with its calibration.
    """
    multi_label, keep = experiment.data.multi_label, experiment.model.logit_scale > 0
    held, logits = out_of_fold(lambda part: solve(part, found, experiment), data, folds)
    own = own and own.part(np.isin(data.clip, np.concatenate(folds)))
    compared = []  # of each candidate, its rows with each weight of own scores
    calibrations = []
    for model, raw in zip(found, logits, strict=True):
        scale, shift = calibrate(raw, held, multi_label=multi_label, keep_scale=keep)
        calibrations.append((scale, shift))
        blends = [(w, own.blended(raw * scale + shift, w)) for w in WEIGHTS] if own else [(0.0, raw * scale + shift)]
        scores = [held_out_score(each, held, multi_label=multi_label) for _, each in blends]
        compared.append(
            [
                {**_settings(model), **({"own_scores": w} if own else {}), **finite(dataclasses.asdict(score))}
                for (w, _), score in zip(blends, scores, strict=True)
            ]
        )
    by = "macro_auroc" if multi_label and all("macro_auroc" in row for rows in compared for row in rows) else "log_loss"
    rows = [min(each, key=lambda row: _order(row, by)) for each in compared]
    best_of = [
        min((i for i, model in enumerate(found) if model.head == head), key=lambda i: _order(rows[i], by))
        for head in dict.fromkeys(model.head for model in found)
    ]
    worse = {i: -rows[i][by] if by == "macro_auroc" else rows[i][by] for i in best_of}
    least = min(worse.values())
    best = next(i for i in best_of if worse[i] <= least + TIES[by])  # in the order of simplicity
    others = [i for i in best_of if i != best]
    choices: dict[str, Any] = {}
    if len(found) > 1:
        choices = {"n_folds": len(folds), "n_clips": held.n_clips, "criterion": by, "candidates": rows}
        choices["chosen"] = rows[best]
        if others:
            choices["better_by"] = {found[i].head: worse[i] - worse[best] for i in others}
    remark = _remark(choices, len(others)) if choices else ""
    if own:
        choices["own_scores"] = {"weight": rows[best]["own_scores"], "candidates": compared[best]}
    return Chosen(found[best], *calibrations[best], choices, remark, rows[best].get("own_scores", 0.0))


def _order(row: dict[str, Any], by: str) -> tuple[float, float]:
    """The smaller, the better; among equal areas the smaller cross-entropy."""
    return round(-row[by] if by == "macro_auroc" else row[by], DIGITS), row["log_loss"]


def finite(values: dict[str, float]) -> dict[str, float]:
    """The values that are finite, which JSON can hold."""
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _settings(model: schema.Model) -> dict[str, Any]:
    """The settings in which the candidates of a head differ."""
    kind, found = KINDS[model.head], {"head": model.head, "transform": model.encoder_head.transform}
    l2 = {"l2": model.encoder_head.l2} if kind.l2 else {}
    return found | l2 | ({"logit_scale": model.logit_scale} if kind.scales else {})


def _remark(choices: dict[str, Any], n_others: int) -> str:
    """Sentence on the chosen head, and by how much it is better than the other heads."""
    chosen, by = choices["chosen"], choices["criterion"]
    name, sign = {"log_loss": ("log loss", "lower"), "macro_auroc": ("macro AUROC", "higher")}[by]
    settings = ", ".join(f"{key}={chosen[key]:g}" for key in ("l2", "logit_scale") if key in chosen)
    scores = f"{name} {chosen[by]:.4f}" + (f", accuracy {chosen['accuracy']:.3f}" if "accuracy" in chosen else "")
    where = f"on {choices['n_folds']} grouped fold{'s' * (choices['n_folds'] > 1)} of the training clips"
    if not n_others:
        return f"model.head={chosen['head']} with {settings} was chosen {where} ({scores})."
    head = chosen["head"] + (f" ({settings})" if settings else "")
    better = sorted(choices["better_by"].items(), key=lambda item: item[1])
    others = ", ".join(f"{other} by {difference:.4f}" for other, difference in better)
    return (
        f"model.head={head} was chosen {where}: {scores}, {sign} than that of {others}. Differences up to {TIES[by]} "
        "are ties, of which the simplest head is chosen."
    )
