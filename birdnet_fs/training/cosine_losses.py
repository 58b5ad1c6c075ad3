"""Losses for a network with the head "cosine", whose logits are scale x cosine: one class a row, mean over the batch.

ArcFace (Deng et al. 2019, https://arxiv.org/abs/1801.07698) and Circle loss (Sun et al. 2020,
https://arxiv.org/abs/2002.10857, with class-level labels) change the logits by the labels and take cross-entropy of
that. Circle is the paper's, whose alphas weigh each cosine by its distance from the optimum; torch_impl computes them
and leaves them out, which makes its loss cross-entropy of scale x (cosine - 0.6) for the class and scale x
(cosine - 0.4) for the others.
"""

import math

import torch

from birdnet_fs.training.losses import as_float32, cross_entropy

SMALLEST_SQUARED_SINE = 1e-7  # the rounding of 1 - cosine ** 2 in float32; the root's slope is infinite at 0


def arcface(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0, *, scale: float, margin: float
) -> torch.Tensor:
    """Cross-entropy after the angle to the true class is made larger by `margin`.

    Args:
        logits: scale x cosine [batch, n_classes].
        targets: [batch, n_classes], one 1 in each row, else 0.
        label_smoothing: As in `cross_entropy`.
        scale: What the cosines were multiplied by; published 64, 30 in torch_impl.
        margin: Radians, in (0, 1); published 0.5. Beyond pi - margin, where the cosine of the sum would rise again,
            margin x sin(margin) is taken off the cosine instead.
    """
    cosine = as_float32(logits) / scale
    sine = (1 - cosine.square()).clamp(min=SMALLEST_SQUARED_SINE).sqrt()
    moved = torch.where(
        cosine > math.cos(math.pi - margin),
        cosine * math.cos(margin) - sine * math.sin(margin),
        cosine - margin * math.sin(math.pi - margin),
    )
    return cross_entropy(scale * torch.where(targets > 0, moved, cosine), targets, label_smoothing)


def circle(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0, *, scale: float, margin: float
) -> torch.Tensor:
    """Cross-entropy of cosines weighted by their distance from the optimum: log(1 + sum exp(n) x exp(-p)).

    The cosine p of the true class becomes scale x [1 + margin - p]+ x (p - 1 + margin), each other n becomes
    scale x [n + margin]+ x (n - margin); no gradient goes through the weights in brackets (the paper's equation 10).

    Args:
        logits: scale x cosine [batch, n_classes].
        targets: [batch, n_classes], one 1 in each row, else 0.
        label_smoothing: As in `cross_entropy`.
        scale: What the cosines were multiplied by; published 256, 80 in torch_impl.
        margin: In (0, 1); published 0.25, 0.4 in torch_impl.
    """
    cosine = as_float32(logits) / scale
    fixed = cosine.detach()
    positive = (1 + margin - fixed).clamp(min=0) * (cosine - (1 - margin))
    negative = (fixed + margin).clamp(min=0) * (cosine - margin)
    return cross_entropy(scale * torch.where(targets > 0, positive, negative), targets, label_smoothing)
