"""Search spaces of `birdnet-fs tune`: one distribution per setting, returned by a function of a config.py.

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
    """A real number from `low` to `high`, both included."""

    low: float  # smallest value
    high: float  # largest value
    log: bool = False  # uniform in the logarithm; needs low > 0
    step: float = 0.0  # distance of the values; 0 = continuous

    def __post_init__(self) -> None:
        _check_range(self)
        check(not (self.log and self.step), "A Float must have log=True or a step, not both", self)


@dataclass(frozen=True)
class Int:
    """A whole number from `low` to `high`, both included."""

    low: int  # smallest value
    high: int  # largest value
    log: bool = False  # uniform in the logarithm; needs low > 0
    step: int = 1  # distance of the values, 1 or more

    def __post_init__(self) -> None:
        _check_range(self)
        check(
            all(isinstance(v, int) for v in (self.low, self.high, self.step)), "An Int must be of whole numbers", self
        )
        check(
            self.step >= 1 and not (self.log and self.step > 1),
            "An Int must have log=True or a step above 1, not both",
            self,
        )


@dataclass(frozen=True)
class Categorical:
    """One of several unordered options."""

    options: tuple[Any, ...]  # values of a setting, or names for `frontend`, `model`, `training.loss` and the like

    def __post_init__(self) -> None:
        check(isinstance(self.options, (tuple, list)), "A Categorical must be of a tuple of options", self.options)
        written = {text(option) for option in self.options}
        distinct = len(self.options) == len(written) > 0
        check(distinct, "A Categorical must have one or more distinct options", self.options)


# (drawn settings, experiment that is tuned) -> further settings that follow from them
Derive = Callable[[dict[str, Any], Experiment], Mapping[str, Any]]


@dataclass(frozen=True)
class Space:
    """The settings to search, the sampler and the pruner."""

    values: Mapping[str, Float | Int | Categorical]  # distribution by dotted key, as on the command line
    derive: Derive | None = None  # settings computed from the drawn ones; they override drawn ones
    n_trials: int = 50  # number of trials that finish or are pruned, 1 or more
    sampler: Literal["tpe", "random"] = "tpe"  # tpe: tree-structured Parzen estimator (Bergstra et al. 2011)
    pruner: Literal["median", "hyperband", "none"] = "median"
    # median: stops a trial whose best epoch so far is below the median of the other trials after as many epochs
    # hyperband: Li et al. 2018 (https://arxiv.org/abs/1603.06560); about a third of the trials continue at each rung
    n_startup_trials: int = 5  # trials that finish before the median pruner stops any, 0 or more
    n_warmup_epochs: int = 5  # epochs of every trial before it can be pruned (hyperband: at least), 1 or more

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
        """Convert the searched distributions to plain values; studies with equal values are the same study."""
        return {key: {"kind": type(value).__name__, **dataclasses.asdict(value)} for key, value in self.values.items()}


def _check_range(value: Float | Int) -> None:
    numbers = (value.low, value.high)
    whole = all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in numbers)
    check(whole and value.low < value.high, f"{type(value).__name__} must have low below high, both finite", value)
    check(not value.log or value.low > 0, "log=True needs numbers above 0", value)
