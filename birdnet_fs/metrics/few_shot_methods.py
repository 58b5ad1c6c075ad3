"""Methods that score the queries of episodes from the embeddings of the support.

"euclidean" and "cosine" score by the distance to the prototype of a class, the mean of its support (Snell et al. 2017,
https://arxiv.org/abs/1703.05175); "simpleshot" subtracts the mean of the base classes, scales every embedding to length
1 and scores by the nearest prototype (Wang et al. 2019, "SimpleShot", CL2N, https://arxiv.org/abs/1911.04623);
"logistic_regression" is a linear probe on embeddings of length 1 (Tian et al. 2020, https://arxiv.org/abs/2003.11539;
multinomial, C = 1). `few_shot.by_embedding` subtracts and scales before it calls them.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

SMALLEST = 1e-6  # length below which an embedding has no direction
MAX_STEPS, STEP_TOLERANCE = 1000, 3e-6  # of the probe: it stops when no weight changes by more

Floats = NDArray[np.float32]
# support [n, n_way, n_shot, width], query [n, n_way * n_query, width] -> scores [n, n_way * n_query, n_way]
Method = Callable[[Floats, Floats], Floats]


def unit_length(x: Floats) -> Floats:
    """Embeddings [..., width], scaled to length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), SMALLEST)


def _euclidean(support: Floats, query: Floats) -> Floats:
    """Minus the squared distance, without the square of the query, which is the same for all classes."""
    prototypes = support.mean(axis=2)
    return 2 * query @ prototypes.swapaxes(1, 2) - np.square(prototypes).sum(axis=2)[:, None, :]


def _cosine(support: Floats, query: Floats) -> Floats:
    """The cosine times the length of the query, which is the same for all classes."""
    return query @ unit_length(support.mean(axis=2)).swapaxes(1, 2)


def _logistic_regression(support: Floats, query: Floats) -> Floats:
    """The fit of scikit-learn's LogisticRegression (for n_way = 2 multinomial, with C = 2), for all episodes at once.

    By accelerated gradient steps. The optimal weights are sums of support clips, so only the products of clips are
    needed. The mean is subtracted first (the intercept compensates), which nearly decouples the intercept from the
    weights.
    """
    n, n_way, n_shot, width = support.shape
    clips = support.reshape(n, n_way * n_shot, width)
    mean = clips.mean(axis=1, keepdims=True)
    clips = clips - mean
    products = clips @ clips.swapaxes(1, 2)
    truth = np.repeat(np.eye(n_way, dtype=np.float32), n_shot, axis=0)
    largest = np.abs(products).sum(axis=2).max(axis=1)[:, None, None]  # no less than the largest eigenvalue
    curvature = 1 + largest / 2  # of the loss at most, along any direction of the weights; 1 of the penalty at least
    momentum = (np.sqrt(curvature) - 1) / (np.sqrt(curvature) + 1)
    weights, bias = np.zeros((n, *truth.shape), np.float32), np.zeros((n, 1, n_way), np.float32)
    ahead, bias_ahead = weights, bias
    for _ in range(MAX_STEPS):
        wrong = softmax(products @ ahead + bias_ahead, axis=-1) - truth
        last, bias_last = weights, bias
        weights = ahead - (wrong + ahead) / curvature
        bias = bias_ahead - wrong.mean(axis=1, keepdims=True) * largest / curvature
        ahead, bias_ahead = weights + momentum * (weights - last), bias + momentum * (bias - bias_last)
        if np.abs(weights - last).max() < STEP_TOLERANCE and np.abs(bias - bias_last).max() < STEP_TOLERANCE:
            break
    return (query - mean) @ clips.swapaxes(1, 2) @ weights + bias


METHODS: dict[str, Method] = {
    "euclidean": _euclidean,
    "cosine": _cosine,
    "simpleshot": _euclidean,
    "logistic_regression": _logistic_regression,
}
