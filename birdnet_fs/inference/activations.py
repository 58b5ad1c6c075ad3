"""Logits to probabilities and back, for NumPy and for torch.

An activation is "softmax" (one label per clip, over the classes) or "sigmoid" (any number of labels, each class alone);
`schema.Data.activation` is that of a run. Scoring, validation, ensembles, distillation and parity convert logits only
with these functions. Losses have their own formulas and exported graphs their own nodes, which the parity checks
compare with these. Every function raises ValueError for another activation.

The inverse needs a limit at both ends, because a stored probability may be 0 or 1 while no finite logit gives either.
Both limits follow from the resolution of float32, in which probabilities are stored:

- `SMALLEST` = 2^-126, the smallest normal float32. Many runtimes flush anything smaller to 0, so that a stored 0 stands
  for it; its logit is -87.3.
- `LEAST_REST` = 2^-26 for 1 - p. A stored 1 stands for any p of which 1 - p lies in [0, 2^-25], and this is the middle
  of that; its logit is 18.02, which float32 turns back into 1.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

ACTIVATIONS = ("softmax", "sigmoid")
SMALLEST = 2.0**-126
LEAST_REST = 2.0**-26
LEAST_OTHERS = 1e-30  # lower bound of the share of the other classes in log-odds, which are limited to 69 by it


def to_probabilities(logits: ArrayLike, activation: str) -> NDArray[np.float64]:
    """Probabilities of logits, in float64: nothing overflows, and small ones keep all their digits.

    Args:
        logits: [..., n_classes], of any float type.
        activation: "softmax" or "sigmoid".

    Returns:
        float64 [..., n_classes] in 0..1.

    >>> to_probabilities([[0.0, 0.0, 0.0, 0.0]], "softmax").tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    x = np.asarray(logits, np.float64)
    if _is_sigmoid(activation):
        small = np.exp(-np.abs(x))  # of a negative number only, so that nothing overflows
        return np.where(x >= 0, 1.0, small) / (1.0 + small)
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def to_logits(probabilities: ArrayLike, activation: str) -> NDArray[np.float64]:
    """Finite logits of probabilities; those of a softmax, defined up to a constant, are the logarithms.

    Args:
        probabilities: [..., n_classes] in 0..1; those of a softmax sum to 1.
        activation: "softmax" or "sigmoid".

    Returns:
        float64 [..., n_classes]. `to_probabilities` gives the same float32 numbers again, from `SMALLEST` to 1.

    >>> to_logits([[0.0, 0.5, 1.0]], "sigmoid").round(2).tolist()
    [[-87.34, 0.0, 18.02]]
    """
    p = np.asarray(probabilities, np.float64)
    logits = np.log(np.maximum(p, SMALLEST))
    return logits - np.log(np.maximum(1 - p, LEAST_REST)) if _is_sigmoid(activation) else logits


def to_log_odds(logits: ArrayLike, activation: str) -> NDArray[np.float64]:
    """Log-odds log p / (1 - p) of each class alone: the logits themselves for a sigmoid.

    For a softmax 1 - p is summed over the other classes, so that no digits are lost where p is nearly 1; log-odds are
    69 at most (`LEAST_OTHERS`).

    Args:
        logits: [n, n_classes].
        activation: "softmax" or "sigmoid".

    Returns:
        float64 [n, n_classes].

    >>> to_log_odds([[0.0, np.log(3.0)]], "softmax").round(2).tolist()
    [[-1.1, 1.1]]
    """
    x = np.asarray(logits, np.float64)
    if _is_sigmoid(activation) or not len(x):
        return x
    best, rows = x.argmax(axis=1), np.arange(len(x))
    below = x - x.max(axis=1, keepdims=True)
    powers = np.exp(below)
    rest = powers.sum(axis=1, keepdims=True) - powers  # of the best class it would be rounding error
    rest[rows, best] = 1.0
    found = below - np.log(rest)
    powers[rows, best] = 0.0
    found[rows, best] = -np.log(np.maximum(powers.sum(axis=1), LEAST_OTHERS))
    return found


def tensor_to_probabilities(logits: "torch.Tensor", activation: str) -> "torch.Tensor":
    """`to_probabilities` for torch, in the type and on the device of the logits [..., n_classes]."""
    return logits.sigmoid() if _is_sigmoid(activation) else logits.softmax(-1)


def tensor_to_logits(probabilities: "torch.Tensor", activation: str) -> "torch.Tensor":
    """`to_logits` for torch, on the device of the probabilities [..., n_classes]; float32 unless they are float64."""
    p = probabilities if probabilities.element_size() == 8 else probabilities.float()
    logits = p.clamp(min=SMALLEST).log()
    return logits - (1 - p).clamp(min=LEAST_REST).log() if _is_sigmoid(activation) else logits


def tensor_mean_logits(logits: "torch.Tensor", activation: str) -> "torch.Tensor":
    """Logits of the mean of several probabilities, computed in logarithms, so that no limit is needed.

    Args:
        logits: [batch, n, n_classes], of n windows or n networks.
        activation: "softmax" or "sigmoid".

    Returns:
        [batch, n_classes]; for n = 1 the logits unchanged.
    """
    import torch.nn.functional as F

    sigmoid = _is_sigmoid(activation)
    if logits.shape[1] == 1:
        return logits[:, 0]
    if sigmoid:
        return F.logsigmoid(logits).logsumexp(1) - F.logsigmoid(-logits).logsumexp(1)
    return F.log_softmax(logits, dim=2).logsumexp(1)


def _is_sigmoid(activation: str) -> bool:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}. Received: {activation!r}")
    return activation == "sigmoid"
