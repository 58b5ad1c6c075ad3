"""Learning rate schedules.

Linear warm-up followed by cosine decay (Loshchilov & Hutter 2017, "SGDR", https://arxiv.org/abs/1608.03983), step decay
or a constant rate; the one-cycle policy (Smith & Topin 2018, https://arxiv.org/abs/1708.07120); and reduction when a
validation metric stops improving.
"""

import math
from dataclasses import dataclass

RISE = 0.3  # fraction of the steps of "onecycle" with a rising rate


def learning_rate(
    step: int,
    *,
    peak: float,
    n_steps: int,
    n_warmup: int,
    schedule: str = "cosine",
    minimum: float = 0.0,
    n_steps_per_drop: int = 1,
    factor: float = 1.0,
    div: float = 10.0,
    final_div: float = 100.0,
) -> float:
    """Compute the learning rate of one optimizer step.

    Args:
        step: Index of the step, 0 to `n_steps` - 1.
        peak: Highest rate, above 0.
        n_steps: Number of steps of the whole training.
        n_warmup: Number of steps of linear warm-up, part of `n_steps`. Not used by "onecycle".
        schedule: Course of the rate after warm-up. Default: "cosine".
            "cosine": half a cosine from `peak` to `minimum`.
            "step": `peak` multiplied by `factor` after every `n_steps_per_drop` steps since the start of the training.
            "constant": `peak`.
            "plateau": as "constant"; `Plateau` gives a further factor.
            "onecycle": half a cosine up from `peak` / `div` in the first 30 % of the steps, then one down to
            `peak` / `div` / `final_div` (torch's OneCycleLR without its momentum cycle).
        minimum: Rate at the end of "cosine". Default: 0.
        n_steps_per_drop: Number of steps between two drops of "step", 1 or more. Default: 1.
        factor: Factor of each drop of "step". Default: 1.
        div: Highest rate of "onecycle" divided by its first one, 1 or more. Default: 10.
        final_div: First rate of "onecycle" divided by its last one, 1 or more. Default: 100.

    Returns:
        The rate, 0 or more.

    >>> [round(learning_rate(s, peak=1.0, n_steps=6, n_warmup=2), 2) for s in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    >>> drops = {"schedule": "step", "n_steps_per_drop": 2, "factor": 0.5}
    >>> [learning_rate(s, peak=1.0, n_steps=6, n_warmup=0, **drops) for s in range(6)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    >>> [round(learning_rate(s, peak=1.0, n_steps=11, n_warmup=0, schedule="onecycle"), 3) for s in (0, 2, 10)]
    [0.1, 0.963, 0.001]
    """
    if schedule == "onecycle":
        return _one_cycle(step, peak, n_steps, peak / div, peak / div / final_div)
    if step < n_warmup:
        return peak * (step + 1) / n_warmup
    if schedule == "step":
        return peak * factor ** (step // n_steps_per_drop)
    if schedule in ("constant", "plateau"):
        return peak
    done = (step - n_warmup) / max(1, n_steps - n_warmup)
    return _half_cosine(peak, minimum, min(1.0, done))


def _one_cycle(step: int, peak: float, n_steps: int, first: float, last: float) -> float:
    top = RISE * n_steps - 1
    if step <= top:
        return _half_cosine(first, peak, step / top)
    left = n_steps - 1 - top
    return _half_cosine(peak, last, min(1.0, (step - top) / left) if left > 0 else 1.0)


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class Plateau:
    """Factor of the learning rate that shrinks when a metric stops improving.

    Same rule as torch's ReduceLROnPlateau with mode="max" and threshold_mode="abs".

    Attributes:
        factor: Factor by which `scale` is multiplied, in (0, 1).
        patience: Number of epochs without improvement that are accepted before a reduction.
        min_delta: Smallest increase that counts as an improvement. Default: 0.001, as in ANIMAL-SPOT.
        scale: Present factor of the learning rate.
        best: Largest value so far.
        n_waited: Number of epochs since the last improvement or reduction.
    """

    factor: float
    patience: int
    min_delta: float = 1e-3
    scale: float = 1.0
    best: float = -math.inf
    n_waited: int = 0

    def update(self, value: float) -> None:
        """Add the value of one epoch; NaN counts as no improvement."""
        if value > self.best + self.min_delta:
            self.best, self.n_waited = value, 0
            return
        self.n_waited += 1
        if self.n_waited > self.patience:
            self.scale, self.n_waited = self.scale * self.factor, 0
