"""The learning rate of every step: linear warm-up, then a cosine (Loshchilov & Hutter 2017, SGDR), steps or nothing."""

import math


def learning_rate(
    step: int,
    *,
    peak: float,
    n_steps: int,
    n_warmup: int,
    schedule: str = "cosine",
    lowest: float = 0.0,
    n_per_step: int = 1,
    factor: float = 1.0,
) -> float:
    """The rate of a step.

    Args:
        step: Counted from 0.
        peak: Highest rate.
        n_steps: Steps in the whole training.
        n_warmup: Steps of linear rise, part of `n_steps`.
        schedule: What comes then: "cosine" (half of one, from `peak` to `lowest`), "step" (times `factor` at every
            multiple of `n_per_step`, counted from the start of the training) or "constant".
        lowest: Where the cosine ends.
        n_per_step: Of "step".
        factor: Of "step".

    >>> [round(learning_rate(s, peak=1.0, n_steps=6, n_warmup=2), 2) for s in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    >>> [learning_rate(s, peak=1.0, n_steps=6, n_warmup=0, schedule="step", n_per_step=2, factor=0.5) for s in range(6)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """
    if step < n_warmup:
        return peak * (step + 1) / n_warmup
    if schedule == "step":
        return peak * factor ** (step // n_per_step)
    if schedule == "constant":
        return peak
    done = (step - n_warmup) / max(1, n_steps - n_warmup)
    return lowest + (peak - lowest) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
