"""Losses on logits, mean over the batch, for targets that may be soft (mixup)."""

import torch
import torch.nn.functional as F


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Softmax cross-entropy with soft targets.

    Args:
        logits: [batch, n_classes].
        targets: [batch, n_classes], each row sums to 1.
        label_smoothing: Share of every target spread evenly over all classes, in [0, 1).
    """
    targets = targets * (1 - label_smoothing) + label_smoothing / targets.shape[1]
    return -(targets * F.log_softmax(logits.float(), dim=1)).sum(dim=1).mean()


def binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Sigmoid cross-entropy, mean over classes and batch; smoothing draws targets towards one half."""
    targets = targets * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits.float(), targets)
