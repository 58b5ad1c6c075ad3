"""Class weights from the number of clips of each class, for the loss or for sampling clips.

With N clips, n of them of a class: inverse is N / (n_classes n), sqrt_inverse is sqrt(N / n), effective is
(1 - b) / (1 - b ** n) with b = 0.9999, the inverse of the "effective number of samples" of Cui et al. 2019,
https://arxiv.org/abs/1901.05555. Classes with under 5 % of the clips may get an additional factor. The rules and the
factor of 1.5 are those of a fork of ANIMAL-SPOT for cetacean calls.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

BETA = 0.9999  # b of the rule "effective"
RARE = 0.05  # a class with a smaller share of the clips is rare
Floats = NDArray[np.float64]

RULES: dict[str, Callable[[Floats], Floats]] = {
    "inverse": lambda n: n.sum() / (len(n) * n),
    "sqrt_inverse": lambda n: np.sqrt(n.sum() / n),
    "effective": lambda n: (1 - BETA) / (1 - BETA**n),
}


def class_weights(counts: NDArray, rule: str, *, rare_class_weight: float = 1.0) -> Floats:
    """Weight of each class, scaled so that the largest is 1.

    Args:
        counts: Number of clips of each class, [n_classes]; a class without clips gets weight 0.
        rule: A key of `RULES`.
        rare_class_weight: Factor for the weight of a rare class, 1 or more. Default: 1.

    Returns:
        float64 [n_classes], in 0..1.

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
    """Class weights of the loss; their mean over the positive targets is 1, so that the learning rate needs no change.

    Args:
        targets: [n_clips, n_classes]; soft targets count as fractions of a clip, and values below 0 as 0.
        rule: A key of `RULES`, or "none".
        rare_class_weight: Factor for the weight of a rare class, 1 or more. Default: 1.

    Returns:
        float32 [n_classes], or None for "none".
    """
    if rule == "none":
        return None
    counts = np.clip(targets, 0, None).sum(axis=0)
    weights = class_weights(counts, rule, rare_class_weight=rare_class_weight)
    return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)


def clip_weights(targets: NDArray, rule: str, *, rare_class_weight: float = 1.0) -> Floats | None:
    """Probability of each clip in one draw, in proportion to the largest weight of its classes.

    Args:
        targets: [n_clips, n_classes]; above 0 is a label. Clips without a label count as one more class.
        rule: A key of `RULES`, or "all".
        rare_class_weight: Factor for the weight of a rare class, 1 or more. Default: 1.

    Returns:
        float64 [n_clips], sum 1, or None for "all".
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
    """Clips of one epoch after over- and undersampling.

    With one label per clip, the numbers of clips are exact. With several labels or none, a clip is repeated as often as
    its rarest class needs (repeat factor sampling, Gupta et al. 2019, https://arxiv.org/abs/1908.03195): on average
    max(min_clips_per_class / n) over its classes of too few clips, 1 if it has a class between the limits or no label,
    and otherwise max(max_clips_per_class / n) over its classes, all of which have too many clips n. So that each class
    has `min_clips_per_class` on average or more, and a class may stay above `max_clips_per_class` by clips that it
    shares with rarer ones.

    Args:
        targets: [n_clips, n_classes]; above 0 is a label.
        rng: Generator of the epoch.
        min_clips_per_class: Clips of a class with fewer are repeated, as evenly as possible, up to this number.
            Default: 0, no oversampling.
        max_clips_per_class: Largest number of clips of a class in an epoch, drawn without replacement, 0 or more; 0 =
            no limit. Default: 0.

    Returns:
        Sorted indices of clips, int64 [n_items]; oversampled clips occur several times. The number is the same in
        every epoch.
    """
    if not min_clips_per_class and not max_clips_per_class:
        return np.arange(len(targets))
    if not ((targets > 0).sum(axis=1) == 1).all():
        return _repeated(_repeat_factors(targets > 0, min_clips_per_class, max_clips_per_class), rng)
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


def _repeat_factors(labeled: NDArray[np.bool_], least: int, most: int) -> Floats:
    """Mean number of times that each clip occurs in an epoch [n_clips]."""
    n = np.maximum(labeled.sum(axis=0), 1).astype(np.float64)
    factors = np.ones(len(n))
    factors[n < least] = least / n[n < least]
    if most:
        factors[n > most] = most / n[n > most]
    found = np.where(labeled, factors, 0).max(axis=1)
    return np.where(labeled.any(axis=1), found, 1.0)


def _repeated(factors: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Clips by their factors: whole numbers as they are, fractions by systematic sampling, whose number is constant."""
    times = np.floor(factors).astype(np.int64)
    order = rng.permutation(len(factors))
    cumulative = np.cumsum((factors - times)[order])
    n_more = round(float(cumulative[-1]))
    if n_more:
        places = (np.arange(n_more) + rng.random()) * cumulative[-1] / n_more
        chosen = np.searchsorted(cumulative, places, side="right").clip(max=len(order) - 1)
        np.add.at(times, order[chosen], 1)
    return np.repeat(np.arange(len(factors)), times)
