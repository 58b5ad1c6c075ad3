"""The learning rate of every step: linear warm-up, then a cosine (Loshchilov & Hutter 2017, SGDR), steps, or nothing;
one cycle (Smith & Topin 2018, https://arxiv.org/abs/1708.07120), or a fall whenever the validation gets no better.
"""

import math
from dataclasses import dataclass

ONE_CYCLE = (0.3, 10.0, 100.0)  # share of the rise; peak / first rate; first rate / last rate (ANIMAL-SPOT fork)


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
        n_warmup: Steps of linear rise, part of `n_steps`; "onecycle" has its own.
        schedule: What comes then: "cosine" (half of one, from `peak` to `lowest`), "step" (times `factor` at every
            multiple of `n_per_step`, counted from the start of the training), "constant" or "plateau" (here like
            constant; `Plateau` lowers it), or "onecycle": up from peak / 10 along half a cosine in 30 % of the steps,
            then down to peak / 1000 (torch's OneCycleLR with its defaults but div_factor=10, final_div_factor=100,
            momentum left alone).
        lowest: Where the cosine ends.
        n_per_step: Of "step".
        factor: Of "step".

    >>> [round(learning_rate(s, peak=1.0, n_steps=6, n_warmup=2), 2) for s in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    >>> [learning_rate(s, peak=1.0, n_steps=6, n_warmup=0, schedule="step", n_per_step=2, factor=0.5) for s in range(6)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    >>> [round(learning_rate(s, peak=1.0, n_steps=11, n_warmup=0, schedule="onecycle"), 3) for s in (0, 2, 10)]
    [0.1, 0.963, 0.001]
    """
    if schedule == "onecycle":
        return _one_cycle(step, peak, n_steps)
    if step < n_warmup:
        return peak * (step + 1) / n_warmup
    if schedule == "step":
        return peak * factor ** (step // n_per_step)
    if schedule in ("constant", "plateau"):
        return peak
    done = (step - n_warmup) / max(1, n_steps - n_warmup)
    return _half_cosine(peak, lowest, min(1.0, done))


def _one_cycle(step: int, peak: float, n_steps: int) -> float:
    rise, divisor, last_divisor = ONE_CYCLE
    first, top = peak / divisor, rise * n_steps - 1
    if step <= top:
        return _half_cosine(first, peak, step / top)
    left = n_steps - 1 - top
    return _half_cosine(peak, first / last_divisor, min(1.0, (step - top) / left) if left > 0 else 1.0)


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class Plateau:
    """Lowers the rate when a number has not risen for a while, as torch's ReduceLROnPlateau (mode max, absolute).

    Attributes:
        factor: What the rate is multiplied by.
        patience: Epochs without a rise that are borne.
        least: What counts as a rise.
        scale: What the rate is multiplied by now.
        best: The highest number so far.
        n_waited: Epochs without a rise.
    """

    factor: float
    patience: int
    least: float = 1e-3  # ANIMAL-SPOT
    scale: float = 1.0
    best: float = -math.inf
    n_waited: int = 0

    def update(self, value: float) -> None:
        """Take in the number of one epoch; nan is no rise."""
        if value > self.best + self.least:
            self.best, self.n_waited = value, 0
            return
        self.n_waited += 1
        if self.n_waited > self.patience:
            self.scale, self.n_waited = self.scale * self.factor, 0
