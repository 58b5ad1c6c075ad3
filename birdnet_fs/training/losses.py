"""Losses of logits, averaged over the batch; targets may be soft (mixup, label smoothing).

One class per segment: cross-entropy, focal loss (Lin et al. 2017, "Focal Loss", https://arxiv.org/abs/1708.02002).
Any number of classes: binary cross-entropy, focal loss, asymmetric loss (Ridnik et al. 2021,
https://arxiv.org/abs/2009.14119), soft AUC (the pairwise logistic surrogate of Gao and Zhou 2015, "On the Consistency
of AUC Pairwise Optimization", https://arxiv.org/abs/1208.0645, added to binary cross-entropy, which keeps the
probabilities calibrated). Losses on cosine similarities are in `cosine_losses`.

With any number of classes, a target below 0 means unknown (a masked secondary label) and adds nothing to the loss.
Class weights multiply the loss of the positives of a class, like `pos_weight` and `weight` of torch's losses.

To add a loss, write a function (logits, targets, label_smoothing=0.0, *, ..., weights=None) -> scalar, and add one row
to SINGLE or MULTI below and its name to `schema.Loss.name`.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F

Loss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]  # (logits, targets, label_smoothing) -> scalar
Weights = torch.Tensor | None  # [n_classes]


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0, *, weights: Weights = None
) -> torch.Tensor:
    """Compute softmax cross-entropy with soft targets.

    Args:
        logits: float [batch, n_classes].
        targets: float [batch, n_classes], 0..1; each row sums to 1.
        label_smoothing: Fraction of every target that is spread evenly over all classes, in [0, 1). Default: 0.
        weights: float [n_classes], factor of the loss of each class. None: 1.

    Returns:
        Scalar: the loss of each row, summed over the classes and averaged over the batch.
    """
    targets = targets * (1 - label_smoothing) + label_smoothing / targets.shape[1]
    return -(_weighted(targets, weights) * F.log_softmax(as_float32(logits), dim=1)).sum(dim=1).mean()


def focal_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    label_smoothing: float = 0.0,
    *,
    gamma: float = 2.0,
    weights: Weights = None,
) -> torch.Tensor:
    """Compute softmax cross-entropy in which a class with probability p has the factor (1 - p) ** gamma.

    Args:
        logits: float [batch, n_classes].
        targets: float [batch, n_classes], 0..1; each row sums to 1.
        label_smoothing: Fraction of every target that is spread evenly over all classes, in [0, 1). Default: 0.
        gamma: Exponent, 0 or more; 0 gives `cross_entropy`. Default: 2, as published.
        weights: float [n_classes], factor of the loss of each class. None: 1.

    Returns:
        Scalar: the loss of each row, summed over the classes and averaged over the batch.
    """
    targets = targets * (1 - label_smoothing) + label_smoothing / targets.shape[1]
    log_p = F.log_softmax(as_float32(logits), dim=1)
    return -(_weighted(targets, weights) * (-torch.expm1(log_p)) ** gamma * log_p).sum(dim=1).mean()


def binary_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0, *, weights: Weights = None
) -> torch.Tensor:
    """Compute sigmoid cross-entropy, averaged over known targets.

    Args:
        logits: float [batch, n_classes].
        targets: float [batch, n_classes], 0..1; below 0 where unknown.
        label_smoothing: Fraction by which targets move towards one half, in [0, 1). Default: 0.
        weights: float [n_classes], factor of the loss of the positives of each class. None: 1.

    Returns:
        Scalar, mean over the known targets of the batch; 0 when there are none.
    """
    known, y = _known(targets, label_smoothing)
    loss = F.binary_cross_entropy_with_logits(as_float32(logits), y, pos_weight=weights, reduction="none")
    return _mean(loss, known)


def focal_binary_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    label_smoothing: float = 0.0,
    *,
    gamma: float = 2.0,
    weights: Weights = None,
) -> torch.Tensor:
    """Compute sigmoid cross-entropy times (1 - p_t) ** gamma, where p_t is the probability of the true outcome.

    The alpha of the paper is left out; `weights` balances each class.

    Args:
        logits: float [batch, n_classes].
        targets: float [batch, n_classes], 0..1; below 0 where unknown.
        label_smoothing: Fraction by which targets move towards one half, in [0, 1). Default: 0.
        gamma: Exponent, 0 or more; 0 gives `binary_cross_entropy`. Default: 2, as published.
        weights: float [n_classes], factor of the loss of the positives of each class. None: 1.

    Returns:
        Scalar, mean over the known targets of the batch; 0 when there are none.
    """
    known, y = _known(targets, label_smoothing)
    x = as_float32(logits)
    loss = F.binary_cross_entropy_with_logits(x, y, pos_weight=weights, reduction="none")
    p = torch.sigmoid(x)
    return _mean(loss * (p + y - 2 * p * y) ** gamma, known)  # 1 - p_t


def asymmetric(
    logits: torch.Tensor,
    targets: torch.Tensor,
    label_smoothing: float = 0.0,
    *,
    gamma_positive: float = 1.0,
    gamma_negative: float = 4.0,
    clip: float = 0.05,
    weights: Weights = None,
) -> torch.Tensor:
    """Compute the asymmetric loss, in which easy negatives count less than easy positives.

    Positives cost -(1 - p) ** gamma_positive x log p, negatives -q ** gamma_negative x log(1 - q) with
    q = max(p - clip, 0), so that negatives with p below `clip` cost nothing (equations 4-6 of the paper). The code of
    the paper sums over the classes; this is the mean.

    Args:
        logits: float [batch, n_classes].
        targets: float [batch, n_classes], 0..1; below 0 where unknown.
        label_smoothing: Fraction by which targets move towards one half, in [0, 1). Default: 0.
        gamma_positive: Exponent for positives, 0 or more. Default: 1, as published.
        gamma_negative: Exponent for negatives, 0 or more. Default: 4, as published.
        clip: Probability subtracted from negatives, 0..1. Default: 0.05, as published.
        weights: float [n_classes], factor of the loss of the positives of each class. None: 1.

    Returns:
        Scalar, mean over the known targets of the batch; 0 when there are none.
    """
    known, y = _known(targets, label_smoothing)
    x = as_float32(logits)
    p = torch.sigmoid(x)
    q = (p - clip).clamp(min=0)
    positive = (1 - p) ** gamma_positive * F.logsigmoid(x)
    # log1p keeps the precision of log(1 - p + clip) for any logit
    negative = q**gamma_negative * torch.log1p(-q)
    return _mean(-(_weighted(y, weights) * positive + (1 - y) * negative), known)


def soft_auc(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0, *, weights: Weights = None
) -> torch.Tensor:
    """Compute binary cross-entropy plus the mean over pairs of log(1 + exp(-(positive logit - negative logit))).

    Pairs are formed within a class of the batch. The weight of a pair is (target of the positive) x (1 - target of the
    negative), and every class with a pair has the same weight.

    Args:
        logits: float [batch, n_classes].
        targets: float [batch, n_classes], 0..1; below 0 where unknown.
        label_smoothing: Fraction by which targets move towards one half in the cross-entropy, in [0, 1). Default: 0.
        weights: float [n_classes], factor of the cross-entropy of the positives of each class. None: 1.

    Returns:
        Scalar, the sum of both parts.
    """
    x = as_float32(logits)
    known, y = _known(targets, 0.0)
    pairs = (y * known)[:, None] * ((1 - y) * known)[None]  # [positive, negative, n_classes]
    pairs = pairs * (1 - torch.eye(len(x), device=x.device))[..., None]
    total = pairs.sum((0, 1))
    by_class = (pairs * F.softplus(x[None] - x[:, None])).sum((0, 1)) / total.clamp(min=1e-6)
    rank = by_class.sum() / (total > 0).sum().clamp(min=1)
    return binary_cross_entropy(logits, targets, label_smoothing, weights=weights) + rank


def with_frames(loss: Loss, share: float) -> Callable[[list[torch.Tensor], torch.Tensor, float], torch.Tensor]:
    """Combine the loss of segment logits with the loss of the largest frame logits, for the head "sed".

    The frame logit of a class is its maximum over time, as in BirdCLEF networks with PANNs' attention head (Kong et al.
    2020, https://arxiv.org/abs/1912.10211).

    Args:
        loss: Loss of logits [batch, n_classes].
        share: Weight of the frame loss, in [0, 1]; the segment loss has 1 - `share`.

    Returns:
        A loss of the outputs [segment logits [batch, n_classes], frame logits [batch, n_frames, n_classes]].
    """

    def combined(outputs: list[torch.Tensor], targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        logits, frames = outputs
        clip = loss(logits, targets, label_smoothing)
        return (1 - share) * clip + share * loss(frames.amax(dim=1), targets, label_smoothing)

    return combined


# name in schema.Loss -> function (logits, targets, label_smoothing, *, weights, ...) -> scalar
SINGLE: dict[str, Callable[..., torch.Tensor]] = {"ce": cross_entropy, "focal": focal_cross_entropy}
MULTI: dict[str, Callable[..., torch.Tensor]] = {
    "bce": binary_cross_entropy,
    "focal": focal_binary_cross_entropy,
    "asymmetric": asymmetric,
    "soft_auc": soft_auc,
}


def loss_by_name(name: str, *, multi_label: bool, weights: Weights = None) -> Loss:
    """Look up a loss in SINGLE or MULTI and set its class weights.

    Args:
        name: Key of SINGLE or MULTI, or "auto" for cross-entropy of either kind.
        multi_label: Any number of classes per segment, else exactly one.
        weights: float [n_classes], factor of each class. None: 1.

    Returns:
        The loss, to be called with (logits, targets, label_smoothing).
    """
    if name == "auto":
        name = "bce" if multi_label else "ce"
    return functools.partial((MULTI if multi_label else SINGLE)[name], weights=weights)


def as_float32(logits: torch.Tensor) -> torch.Tensor:
    """Convert logits [...] to float32, because float16 is too coarse for log-sum-exp; float64 stays."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _weighted(targets: torch.Tensor, weights: Weights) -> torch.Tensor:
    return targets if weights is None else targets * weights


def _known(targets: torch.Tensor, label_smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask of known targets (1, else 0), and smoothed targets; both [batch, n_classes]."""
    known = (targets >= 0).to(targets.dtype)
    return known, targets.clamp(min=0) * (1 - label_smoothing) + label_smoothing / 2


def _mean(loss: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    return (loss * known).sum() / known.sum().clamp(min=1)
