"""Losses for the head "cosine", whose logits are scale x cosine similarity; one class per segment.

ArcFace (Deng et al. 2019, https://arxiv.org/abs/1801.07698) and Circle loss (Sun et al. 2020,
https://arxiv.org/abs/2002.10857, with class-level labels) modify the logits according to the labels and then take
cross-entropy. Circle loss follows the paper, whose alphas weight each cosine by its distance from the optimum.
torch_impl computes the alphas without using them, so that its loss is cross-entropy of scale x (cosine - 0.6) for the
true class and scale x (cosine - 0.4) for the others.
"""

import math

import torch

from birdnet_fs.training.losses import as_float32, cross_entropy

MIN_SQUARED_SINE = 1e-7  # rounding error of 1 - cosine ** 2 in float32; the slope of the square root is infinite at 0


def arcface(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0, *, scale: float, margin: float
) -> torch.Tensor:
    """Compute cross-entropy after increasing the angle to the true class by `margin`.

    Args:
        logits: float [batch, n_classes], scale x cosine.
        targets: float [batch, n_classes], one 1 in each row, 0 elsewhere.
        label_smoothing: Fraction of every target that is spread evenly over all classes, in [0, 1). Default: 0.
        scale: Factor of the cosines in `logits`, above 0; 64 in the paper, 30 in torch_impl.
        margin: Angle in radians, in (0, 1); 0.5 in the paper. For angles above pi - margin, where the cosine of the sum
            would rise again, margin x sin(margin) is subtracted from the cosine instead.

    Returns:
        Scalar, mean over the batch.
    """
    cosine = as_float32(logits) / scale
    sine = (1 - cosine.square()).clamp(min=MIN_SQUARED_SINE).sqrt()
    moved = torch.where(
        cosine > math.cos(math.pi - margin),
        cosine * math.cos(margin) - sine * math.sin(margin),
        cosine - margin * math.sin(math.pi - margin),
    )
    return cross_entropy(scale * torch.where(targets > 0, moved, cosine), targets, label_smoothing)


def circle(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0, *, scale: float, margin: float
) -> torch.Tensor:
    """Compute cross-entropy of cosines weighted by their distance from the optimum: log(1 + sum exp(n) x exp(-p)).

    The cosine p of the true class becomes scale x [1 + margin - p]+ x (p - 1 + margin), and each other cosine n becomes
    scale x [n + margin]+ x (n - margin). No gradient passes through the weights in brackets (equation 10 of the paper).

    Args:
        logits: float [batch, n_classes], scale x cosine.
        targets: float [batch, n_classes], one 1 in each row, 0 elsewhere.
        label_smoothing: Fraction of every target that is spread evenly over all classes, in [0, 1). Default: 0.
        scale: Factor of the cosines in `logits`, above 0; 256 in the paper, 80 in torch_impl.
        margin: Margin of the cosines, in (0, 1); 0.25 in the paper, 0.4 in torch_impl.

    Returns:
        Scalar, mean over the batch.
    """
    cosine = as_float32(logits) / scale
    fixed = cosine.detach()
    positive = (1 + margin - fixed).clamp(min=0) * (cosine - (1 - margin))
    negative = (fixed + margin).clamp(min=0) * (cosine - margin)
    return cross_entropy(scale * torch.where(targets > 0, positive, negative), targets, label_smoothing)
