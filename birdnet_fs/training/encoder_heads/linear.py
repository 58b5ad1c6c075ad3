"""Head "linear": logistic regression on transformed embeddings (logistic.py).

Where each clip has one label, the rows are the windows and the mean embedding of each clip, with half of the clip's
weight each. Where a clip may have several labels, each of which may belong to a part of it only, the rows are the
means. Measured with BirdNET V2.4: ten species, 5 folds, AUROC .9994 with windows, .9988 with means, .9996 with both;
mixed soundscapes, .934 with windows, .943 with means, .938 with both (cmAP .838, .866, .851).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.batches.class_balance import loss_weights
from birdnet_fs.training.encoder_heads.data import HeadData
from birdnet_fs.training.encoder_heads.logistic import fit_logistic
from birdnet_fs.training.encoder_heads.solution import Solution
from birdnet_fs.training.encoder_heads.transform import Transform


def training_rows(data: HeadData, x: NDArray, *, multi_label: bool) -> tuple[NDArray, NDArray, NDArray]:
    """Rows that a head is fitted to.

    Args:
        data: The clips.
        x: Transformed embeddings of their windows [n_windows, width].
        multi_label: Whether a clip may have several labels.

    Returns:
        Embeddings [n, width], targets [n, n_classes] and weights [n] with the sum 1.
    """
    means, equal = data.means(x), np.full(data.n_clips, 1 / data.n_clips)
    if multi_label:
        return means, data.targets, equal
    targets = np.concatenate([data.targets[data.clip], data.targets])
    return np.concatenate([x, means]), targets, np.concatenate([data.weights, equal]) / 2


def solve_linear(
    data: HeadData, transform: Transform, candidates: Sequence[schema.Model], experiment: schema.Experiment
) -> list[Solution]:
    """Fit the head with each `encoder_head.l2`, each fit starting from the one before.

    Args:
        data: The training data.
        transform: The transform of all candidates.
        candidates: Settings that differ in `encoder_head.l2`.
        experiment: Uses `data.multi_label` and `training.loss` (label smoothing and class weights).

    Returns:
        One solution for each candidate.
    """
    multi_label, loss = experiment.data.multi_label, experiment.training.loss
    weights = loss_weights(data.targets, loss.class_weights, rare_class_weight=loss.rare_class_weight)
    x, targets, shares = training_rows(data, transform(data.embeddings), multi_label=multi_label)
    smooth = loss.label_smoothing / (2 if multi_label else targets.shape[1])
    smoothed = np.where(targets < 0, targets, targets * (1 - loss.label_smoothing) + smooth)
    solutions, found = [], None
    for model in candidates:
        found = fit_logistic(
            x,
            smoothed,
            shares,
            model.encoder_head.l2,
            multi_label=multi_label,
            class_weights=weights,
            start=found,
        )
        kernel, bias = (part.astype(np.float32) for part in found)
        numbers = {**transform.weights, "logits/kernel": kernel, "logits/bias": bias}
        solutions.append(Solution(model, numbers, _score(transform, kernel, bias)))
    return solutions


def _score(transform: Transform, kernel: NDArray, bias: NDArray):  # type: ignore[no-untyped-def]
    return lambda data: transform(data.embeddings) @ kernel + bias
