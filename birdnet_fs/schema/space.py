"""Where `birdnet-fs tune` looks for better settings, as a function of config.py gives it: a value for each setting.

    def space_birds10(*, quick: bool = False) -> Space:
        return Space({"training.learning_rate": Float(1e-4, 1e-2, log=True), "model.dropout": Float(0.0, 0.5)})

Distributions are those of Optuna (Akiba et al. 2019, https://arxiv.org/abs/1907.10902).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from birdnet_fs.core.settings import text
from birdnet_fs.schema.checks import check
from birdnet_fs.schema.experiment import Experiment


@dataclass(frozen=True)
class Float:
    """A number from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False  # as many trials from .001 to .01 as from .01 to .1
    step: float = 0.0  # 0 = any number between

    def __post_init__(self) -> None:
        _check_range(self)
        check(not (self.log and self.step), "A Float has log=True or a step, not both", self)


@dataclass(frozen=True)
class Int:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        _check_range(self)
        check(all(isinstance(v, int) for v in (self.low, self.high, self.step)), "An Int is of whole numbers", self)
        check(self.step >= 1 and not (self.log and self.step > 1), "An Int has log=True or a step above 1", self)


@dataclass(frozen=True)
class Categorical:
    """One of some options, in no order: values of a setting, or names as of `frontend`, `model` and `training.loss`."""

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        check(isinstance(self.options, (tuple, list)), "A Categorical is of a tuple of options", self.options)
        written = {text(option) for option in self.options}
        distinct = len(self.options) == len(written) > 0
        check(distinct, "A Categorical has one or more options, no two alike", self.options)


# further settings that follow from the drawn ones; the experiment is the one that is tuned
Derive = Callable[[dict[str, Any], Experiment], Mapping[str, Any]]


@dataclass(frozen=True)
class Space:
    """What to search, and how."""

    values: Mapping[str, Float | Int | Categorical]  # by dotted setting, as on the command line; in this order
    derive: Derive | None = None  # what it gives is set too, after what was drawn and instead of that
    n_trials: int = 50  # that were trained to their end or pruned
    sampler: Literal["tpe", "random"] = "tpe"  # tpe: Bergstra et al. 2011, learns from what was tried
    pruner: Literal["median", "hyperband", "none"] = "median"
    # median: ends a trial whose best epoch so far is below the median of the others after as many epochs
    # hyperband: Li et al. 2018 (https://arxiv.org/abs/1603.06560), most trials end early and few go on, a third each
    n_startup_trials: int = 5  # that are trained to their end before median prunes any
    n_warmup_epochs: int = 5  # of every trial that are trained whatever comes (hyperband: at least)

    def __post_init__(self) -> None:
        check(len(self.values) > 0, "A Space needs one or more settings to search", dict(self.values))
        for key, value in self.values.items():
            fits = isinstance(value, (Float, Int, Categorical))
            check(fits, f"{key} must be a Float, an Int or a Categorical", value)
        for name in ("n_trials", "n_warmup_epochs"):
            check(getattr(self, name) >= 1, f"A Space's {name} must be 1 or more", getattr(self, name))
        check(self.n_startup_trials >= 0, "A Space's n_startup_trials must be 0 or more", self.n_startup_trials)
        for name, known in (("sampler", ("tpe", "random")), ("pruner", ("median", "hyperband", "none"))):
            check(getattr(self, name) in known, f"{name} must be one of {', '.join(known)}", getattr(self, name))

    def to_dict(self) -> dict[str, Any]:
        """The settings that are searched, as plain values: what makes one study the same as another."""
        return {key: {"kind": type(value).__name__, **dataclasses.asdict(value)} for key, value in self.values.items()}


def _check_range(value: Float | Int) -> None:
    numbers = (value.low, value.high)
    whole = all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in numbers)
    check(whole and value.low < value.high, f"{type(value).__name__} must be from a lower to a higher number", value)
    check(not value.log or value.low > 0, "log=True needs numbers above 0", value)
