"""Rare classes: weights by how many clips a class has, for the loss or for drawing clips.

inverse: N / (n_classes x n). sqrt_inverse: sqrt(N / n). effective: (1 - b) / (1 - b ** n) with b = .9999, one over the
"effective number" of Cui et al. 2019, https://arxiv.org/abs/1901.05555. A class with under 5 % of the N clips may be
boosted. The rules and the boost of 1.5 are those of the ANIMAL-SPOT fork (systems of cetacean calls).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError

BETA = 0.9999  # of "effective"
RARE = 0.05  # share of the clips below which a class is rare
Floats = NDArray[np.float64]

RULES: dict[str, Callable[[Floats], Floats]] = {
    "inverse": lambda n: n.sum() / (len(n) * n),
    "sqrt_inverse": lambda n: np.sqrt(n.sum() / n),
    "effective": lambda n: (1 - BETA) / (1 - BETA**n),
}


def class_weights(counts: NDArray, rule: str, *, rare_class_weight: float = 1.0) -> Floats:
    """A weight for each class, the largest 1.

    Args:
        counts: Clips of each class [n_classes]; a class without any gets 0.
        rule: A key of RULES.
        rare_class_weight: Factor for the weight of a rare class, 1 or more.

    Returns:
        [n_classes], in 0..1.

    >>> class_weights(np.array([8, 2]), "inverse").tolist()
    [0.25, 1.0]
    """
    counts = np.asarray(counts, np.float64)
    there = counts > 0
    weights = np.zeros(len(counts))
    weights[there] = RULES[rule](counts[there])
    weights[there & (counts < RARE * counts.sum())] *= rare_class_weight
    return weights / max(weights.max(), np.finfo(float).tiny)


def loss_weights(targets: NDArray, rule: str, *, rare_class_weight: float = 1.0) -> NDArray[np.float32] | None:
    """Weights of the loss, whose mean over the clips' positives is 1, so that the learning rate keeps its meaning.

    Args:
        targets: [n_clips, n_classes]; what is above 0 counts as much as it is.
        rule: A key of RULES, or "none".
        rare_class_weight: As in `class_weights`.

    Returns:
        float32 [n_classes], or None for "none".
    """
    if rule == "none":
        return None
    counts = np.clip(targets, 0, None).sum(axis=0)
    weights = class_weights(counts, rule, rare_class_weight=rare_class_weight)
    return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)


def clip_weights(targets: NDArray, rule: str, *, rare_class_weight: float = 1.0) -> Floats | None:
    """How often each clip is drawn, relative to the others: the weight of its rarest class.

    Args:
        targets: [n_clips, n_classes], a label where above 0. Clips without a label count as a class of their own.
        rule: A key of RULES, or "all".
        rare_class_weight: As in `class_weights`.

    Returns:
        [n_clips], sum 1, or None for "all".
    """
    if rule == "all":
        return None
    labeled = np.concatenate([targets > 0, ~(targets > 0).any(axis=1, keepdims=True)], axis=1)
    weights = class_weights(labeled.sum(axis=0), rule, rare_class_weight=rare_class_weight)
    of_clips = np.where(labeled, weights, 0).max(axis=1)
    return of_clips / of_clips.sum()


def epoch_clips(
    targets: NDArray, rng: np.random.Generator, *, min_clips_per_class: int = 0, max_clips_per_class: int = 0
) -> NDArray[np.int64]:
    """The clips of one epoch after over- and undersampling, sorted; a clip may stand in it several times.

    Args:
        targets: [n_clips, n_classes], one label a clip.
        rng: Of the epoch.
        min_clips_per_class: A class with fewer clips gives each as often as needed, as evenly as can be; 0 = as it is.
        max_clips_per_class: A class with more gives this many, drawn without replacement; 0 = all.

    Raises:
        UserError: A clip has several labels, or none.
    """
    if not min_clips_per_class and not max_clips_per_class:
        return np.arange(len(targets))
    if not ((targets > 0).sum(axis=1) == 1).all():
        raise UserError(
            "training.sampling.min_clips_per_class and training.sampling.max_clips_per_class count the clips of a "
            "class and need one label a clip; use training.sampling for clips with several labels or none."
        )
    chosen = []
    for column in (targets > 0).T:
        clips = np.flatnonzero(column)
        if max_clips_per_class and len(clips) > max_clips_per_class:
            clips = rng.choice(clips, max_clips_per_class, replace=False)
        elif len(clips) and len(clips) < min_clips_per_class:
            times, rest = divmod(min_clips_per_class, len(clips))
            clips = np.concatenate([np.repeat(clips, times), rng.choice(clips, rest, replace=False)])
        chosen.append(clips)
    return np.sort(np.concatenate(chosen))
