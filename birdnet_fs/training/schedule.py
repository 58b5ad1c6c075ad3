"""The learning rate of every step: linear warm-up, then half a cosine to zero (Loshchilov & Hutter 2017, SGDR)."""

import math


def learning_rate(step: int, *, peak: float, n_steps: int, n_warmup: int) -> float:
    """The rate of a step.

    Args:
        step: Counted from 0.
        peak: Highest rate.
        n_steps: Steps in the whole training.
        n_warmup: Steps of linear rise, part of `n_steps`.

    >>> [round(learning_rate(s, peak=1.0, n_steps=6, n_warmup=2), 2) for s in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < n_warmup:
        return peak * (step + 1) / n_warmup
    done = (step - n_warmup) / max(1, n_steps - n_warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
