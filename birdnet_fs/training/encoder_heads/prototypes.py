"""Head "prototypes": the mean of each class, compared by cosine around the mean of all training windows.

Snell et al. 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175; Wang et al. 2019,
"SimpleShot", https://arxiv.org/abs/1911.04623 (centered embeddings of length 1). Nothing is fitted but the scale of the
logits and, where a clip may have several labels, a bias for each class.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.training.encoder_heads.data import HeadData
from birdnet_fs.training.encoder_heads.solution import Solution
from birdnet_fs.training.encoder_heads.transform import Transform

SMALLEST_SQUARE = 1e-12  # as in models/heads/cosine.py: a vector of zeros stays one


def unit_length(x: NDArray) -> NDArray:
    """Vectors [..., width] divided by their length; zeros stay zeros."""
    return x / np.sqrt(np.square(x).sum(-1, keepdims=True) + SMALLEST_SQUARE)


def class_means(data: HeadData, points: NDArray) -> NDArray[np.float64]:
    """Mean of the windows of each class, in which each clip has the weight of its target.

    Args:
        data: The clips.
        points: One row per window [n_windows, width].

    Returns:
        float64 [n_classes, width]; zeros for a class without a clip.
    """
    positive = np.clip(data.targets, 0, None).astype(np.float64)
    sums = positive.T @ data.means(points)
    return sums / np.maximum(positive.sum(0), np.finfo(float).tiny)[:, None]


def solve_prototypes(
    data: HeadData, transform: Transform, candidates: Sequence[schema.Model], experiment: schema.Experiment
) -> list[Solution]:
    """Compute the head; nothing differs between candidates but the scale of the logits.

    Args:
        data: The training data.
        transform: The transform of all candidates.
        candidates: Settings with `logit_scale`; 0 counts as 1.
        experiment: Experiment; not used, since every head has the same arguments.

    Returns:
        One solution for each candidate. A class without a clip has the prototype 0 and a bias below every cosine.
    """
    prototypes = class_means(data, unit_length(transform(data.embeddings))).astype(np.float32)
    directions = unit_length(prototypes).T
    absent = ~(data.targets > 0).any(0)
    solutions = []
    for model in candidates:
        scale = model.logit_scale or 1.0
        bias = np.where(absent, -2 * scale, 0).astype(np.float32)
        weights = {
            **transform.weights,
            "logits/prototypes": prototypes,
            "logits/bias": bias,
            "logits/centre": np.zeros(prototypes.shape[1], np.float32),
        }
        settings = dataclasses.replace(model, distance="cosine", logit_scale=scale)

        def score(data: HeadData, scale: float = scale, bias: NDArray = bias) -> NDArray:
            return scale * (unit_length(transform(data.embeddings)) @ directions) + bias

        solutions.append(Solution(settings, weights, score))
    return solutions
