"""Head "linear": logistic regression on transformed embeddings, and on own scores of the encoder (logistic.py)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.training.encoder_heads.data import HeadData
from birdnet_fs.training.encoder_heads.logistic import fit_logistic
from birdnet_fs.training.encoder_heads.rows import training_rows
from birdnet_fs.training.encoder_heads.solution import Solution
from birdnet_fs.training.encoder_heads.transform import Transform, fit_own_transform, on_raw_scores


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
    own_transform = fit_own_transform(data)
    x = transform(data.embeddings)
    if own_transform is not None and data.own is not None:
        x = np.concatenate([x, own_transform(data.own)], axis=1)
    rows = training_rows(data, x, experiment)
    solutions, found = [], None
    for model in candidates:
        found = fit_logistic(rows.x, rows.loss, model.encoder_head.l2, start=found)
        kernel, bias = rows.to_width(found[0]).astype(np.float32), found[1].astype(np.float32)
        plain = {**transform.weights, "logits/kernel": kernel, "logits/bias": bias}
        weights = on_raw_scores(plain, own_transform)

        def score(
            given: HeadData, kernel: NDArray = weights["logits/kernel"], bias: NDArray = weights["logits/bias"]
        ) -> NDArray:
            x = transform(given.embeddings)
            return (x if given.own is None else np.concatenate([x, given.own], axis=1)) @ kernel + bias

        solutions.append(Solution(model, weights, score))
    return solutions
