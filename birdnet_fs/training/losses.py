"""Losses on logits, mean over the batch; targets may be soft (mixup). Those on cosines are in `cosine_losses`.

One class a segment: cross-entropy, focal (Lin et al. 2017, "Focal Loss", https://arxiv.org/abs/1708.02002).
Any number of classes: binary cross-entropy, focal, asymmetric (Ridnik et al. 2021, https://arxiv.org/abs/2009.14119),
soft AUC (the pairwise logistic surrogate, Gao and Zhou 2015, "On the Consistency of AUC Pairwise Optimization",
https://arxiv.org/abs/1208.0645, beside binary cross-entropy, which keeps probabilities where they belong).

With any number of classes a target below 0 means "not known" (a secondary label that is masked): it adds nothing.
Class weights multiply the loss of a class' positives, as `pos_weight` and `weight` of torch's own losses.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F

Loss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]  # (logits, targets, label_smoothing) -> loss
Weights = torch.Tensor | None  # [n_classes]


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0, *, weights: Weights = None
) -> torch.Tensor:
    """Softmax cross-entropy with soft targets.

    Args:
        logits: [batch, n_classes].
        targets: [batch, n_classes], each row sums to 1.
        label_smoothing: Share of every target spread evenly over all classes, in [0, 1).
        weights: [n_classes], what each class' share of the loss is multiplied by; None = 1.
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
    """Cross-entropy in which a class that is told with probability p counts (1 - p) ** gamma; arguments as there."""
    targets = targets * (1 - label_smoothing) + label_smoothing / targets.shape[1]
    log_p = F.log_softmax(as_float32(logits), dim=1)
    return -(_weighted(targets, weights) * (-torch.expm1(log_p)) ** gamma * log_p).sum(dim=1).mean()


def binary_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0, *, weights: Weights = None
) -> torch.Tensor:
    """Sigmoid cross-entropy, mean over classes and batch.

    Args:
        logits: [batch, n_classes].
        targets: [batch, n_classes] in 0..1, below 0 where not known.
        label_smoothing: Share by which targets are drawn towards one half.
        weights: [n_classes], of the positives; None = 1.
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
    """Sigmoid cross-entropy times (1 - p_t) ** gamma, p_t the probability given to the truth; arguments as there.

    Without the paper's alpha, which `weights` do for each class.
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
    """Asymmetric loss, mean over classes and batch: easy negatives count less than easy positives.

    Positives cost -(1 - p) ** gamma_positive x log p, negatives -q ** gamma_negative x log(1 - q) with
    q = max(p - clip, 0), so that negatives below `clip` cost nothing (equations 4-6 of the paper, whose published
    settings these are; its code takes the sum over the classes where this is the mean).
    """
    known, y = _known(targets, label_smoothing)
    x = as_float32(logits)
    p = torch.sigmoid(x)
    q = (p - clip).clamp(min=0)
    positive = (1 - p) ** gamma_positive * F.logsigmoid(x)
    # where nothing is clipped log(1 - p + clip) keeps its digits for any logit
    negative = q**gamma_negative * torch.log1p(-q)
    return _mean(-(_weighted(y, weights) * positive + (1 - y) * negative), known)


def soft_auc(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0, *, weights: Weights = None
) -> torch.Tensor:
    """Binary cross-entropy plus the mean over pairs of log(1 + exp(-(positive's logit - negative's logit))).

    The pairs are those of a class within the batch; a pair weighs the one's target times what the other's leaves to
    1, and each class with a pair counts the same. Arguments as `binary_cross_entropy`; smoothing acts on that alone.
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
    """For the head "sed": (1 - share) x `loss` of the segment's logits + share x `loss` of the loudest frame's.

    The logit of a class in its loudest frame is the largest over time, as the BirdCLEF networks with PANNs' attention
    head are trained (Kong et al. 2020, https://arxiv.org/abs/1912.10211).

    Args:
        loss: Of logits [batch, n_classes].
        share: Of the frames, in [0, 1].

    Returns:
        A loss of [logits, frame logits [batch, n_steps, n_classes]].
    """

    def both(outputs: list[torch.Tensor], targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        logits, frames = outputs
        clip = loss(logits, targets, label_smoothing)
        return (1 - share) * clip + share * loss(frames.amax(dim=1), targets, label_smoothing)

    return both


SINGLE: dict[str, Callable[..., torch.Tensor]] = {"ce": cross_entropy, "focal": focal_cross_entropy}
MULTI: dict[str, Callable[..., torch.Tensor]] = {
    "bce": binary_cross_entropy,
    "focal": focal_binary_cross_entropy,
    "asymmetric": asymmetric,
    "soft_auc": soft_auc,
}


def loss_by_name(name: str, *, multi_label: bool, weights: Weights = None) -> Loss:
    """The loss of a name in SINGLE or MULTI ("auto": cross-entropy of either kind), with class weights."""
    if name == "auto":
        name = "bce" if multi_label else "ce"
    return functools.partial((MULTI if multi_label else SINGLE)[name], weights=weights)


def as_float32(logits: torch.Tensor) -> torch.Tensor:
    """float32 at least: half the digits are too few for a log-sum-exp."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _weighted(targets: torch.Tensor, weights: Weights) -> torch.Tensor:
    return targets if weights is None else targets * weights


def _known(targets: torch.Tensor, label_smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Where targets are known (1, else 0), and the smoothed targets, 0 where they are not."""
    known = (targets >= 0).to(targets.dtype)
    return known, targets.clamp(min=0) * (1 - label_smoothing) + label_smoothing / 2


def _mean(loss: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    return (loss * known).sum() / known.sum().clamp(min=1)
