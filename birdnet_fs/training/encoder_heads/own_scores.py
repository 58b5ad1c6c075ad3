"""The encoder's own scores for classes that it knows, blended with a head on its embedding.

A pretrained encoder has seen far more recordings of a species than the user has, and its own score for it is often
better than a head on a few clips; a head knows the user's site and the classes that the encoder does not. The logits of
a known class are the weighted mean of both, after both are calibrated; the weight of the encoder is the one of WEIGHTS
with the lowest cross-entropy of training clips that the head was not fitted to (a product of experts with weights,
Hinton 2002, https://doi.org/10.1162/089976602760128018, in logarithms).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.training.encoder_heads.data import HeadData
from birdnet_fs.training.encoder_heads.fitting import FittedHead, finite, held_out_logits
from birdnet_fs.training.encoder_heads.scoring import calibrate, held_out_score

WEIGHTS = tuple(i / 10 for i in range(11))  # of the encoder's own scores
DEFAULT_WEIGHT = 0.5  # where no clip can be held out


def blend_own_scores(
    fitted: FittedHead, data: HeadData, own: NDArray, places: Sequence[int], experiment: schema.Experiment
) -> FittedHead:
    """Blend the encoder's own scores into a head.

    Args:
        fitted: The head, linear or mlp, fitted to `data`.
        data: The training clips.
        own: float32 [n_windows, n_own], logits of the encoder for the windows of `data`.
        places: [n_own], the class of each of them as its place in the targets.
        experiment: Uses `data.multi_label` and `seed`.

    Returns:
        The head on embeddings and own scores: its layer "logits" reads both, the own scores last.
    """
    multi_label, known = experiment.data.multi_label, list(places)
    n_classes = data.targets.shape[1]
    part = dataclasses.replace(data, targets=data.targets[:, known], augmented=None)
    own_scale, own_shift = calibrate(own, part, multi_label=multi_label)
    clips, head_logits = held_out_logits(fitted, data, experiment)
    weight, rows = DEFAULT_WEIGHT, list[dict[str, Any]]()
    if len(clips):
        held = data.part(clips)
        calibrated = own[np.isin(data.clip, clips)] * own_scale + own_shift
        for candidate in WEIGHTS:
            logits = head_logits.copy()
            logits[:, known] = (1 - candidate) * logits[:, known] + candidate * calibrated
            score = held_out_score(logits, held, multi_label=multi_label)
            rows.append({"weight": candidate, **finite(dataclasses.asdict(score))})
        weight = min(rows, key=lambda row: row["log_loss"])["weight"]
    share = np.ones(n_classes)
    share[known] = 1 - weight
    shift = np.zeros(n_classes)
    shift[known] = weight * own_shift
    behind = np.zeros((len(known), n_classes))
    behind[np.arange(len(known)), known] = weight * own_scale
    weights = dict(fitted.weights)
    kernel = np.concatenate([weights["logits/kernel"] * share, behind])
    weights["logits/kernel"] = kernel.astype(np.float32)
    weights["logits/bias"] = (weights["logits/bias"] * share + shift).astype(np.float32)
    remark = (
        f"The encoder's own scores of {len(known)} of {n_classes} classes count {weight:.0%} in the logits"
        f"{', the best on grouped training folds' if rows else ' (nothing could be held out to choose this)'}."
    )
    choices = {**fitted.choices, "own_scores": {"weight": weight, "candidates": rows}}
    return dataclasses.replace(fitted, weights=weights, choices=choices, remarks=[*fitted.remarks, remark])
