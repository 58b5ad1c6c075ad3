"""The factor of similarities, or of logits, at which the probabilities of them fit labels best.

Targets are those of Platt 1999, "Probabilistic Outputs for Support Vector Machines": with targets of 0 and 1, separable
clips would lead to an infinite scale.
"""

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.inference.activations import to_probabilities

RANGE = (1e-2, 1e4)  # search range of the scale times the mean difference of similarities
N_BISECTIONS = 60  # of the logarithm of that range; float64 has no more digits

Doubles = NDArray[np.float64]


def softmax_targets(targets: NDArray) -> Doubles:
    """Targets of Platt for n clips of one class each: (n + 1) / (n + 2) for the class, the rest for the others.

    Args:
        targets: [n, n_classes], 0..1; rows sum to 1.

    Returns:
        float64 [n, n_classes]; with one class, as given.
    """
    n, n_classes = targets.shape
    if n_classes == 1:
        return np.asarray(targets, np.float64)
    of_others = 1 / (n + 2) / (n_classes - 1)
    return of_others + targets * ((n + 1) / (n + 2) - of_others)


def sigmoid_targets(targets: NDArray, known: NDArray) -> Doubles:
    """Targets of Platt for each class alone: (n + 1) / (n + 2) for n positives, 1 / (n + 2) for n negatives.

    Args:
        targets: [n, n_classes], 0..1.
        known: Whether each target is known [n, n_classes].

    Returns:
        float64 [n, n_classes].
    """
    t = np.where(known, targets, 0).astype(np.float64)
    n_positives, n_known = t.sum(0), known.sum(0)
    of_negatives = 1 / (n_known - n_positives + 2)
    return of_negatives + t * ((n_positives + 1) / (n_positives + 2) - of_negatives)


def best_scale(similarities: Doubles, targets: NDArray) -> float:
    """The scale at which the softmax of scale x similarities fits the clips best, by cross-entropy.

    Cross-entropy has one minimum along the scale, where its slope passes through 0.

    Args:
        similarities: float64 [n, n_classes].
        targets: [n, n_classes], 0..1; rows sum to 1.

    Returns:
        The scale, above 0; 1 when all similarities of each clip are equal.
    """
    wanted = softmax_targets(targets)
    unit = float(np.abs(similarities - similarities.mean(1, keepdims=True)).mean())
    if unit == 0:
        return 1.0
    low, high = (limit / unit for limit in RANGE)
    for _ in range(N_BISECTIONS):
        middle = float(np.sqrt(low * high))
        slope = ((to_probabilities(middle * similarities, "softmax") - wanted) * similarities).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.sqrt(low * high))
