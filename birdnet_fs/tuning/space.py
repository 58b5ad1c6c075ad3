"""A search space against the settings: what is wrong with it before the first trial, and what a trial is trained with.

A drawn value becomes `key=value` as on the command line, so that a trial is what `birdnet-fs train CONFIG:NAME` with
these settings trains.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import assigned, override, text
from birdnet_fs.frontend import preset
from birdnet_fs.models import resolve
from birdnet_fs.runs.resolve import NEUTRAL_SETTINGS

GROUPS = {"frontend": preset}
DIGITS = 6  # of a drawn number, so that it can be read and written
# trials that differ in these measure different things, or the same
_MEASURES = ("seed", "data", "episodes", "pretrain")
_CAN_DIFFER = ("data.secondary", "data.secondary_target", "episodes.n_train")
_MAKES_NO_DIFFERENCE = (
    "name",
    "debug",
    "training.checkpoints.select",
    *NEUTRAL_SETTINGS,
)  # to the value a trial is judged by


def check_space(space: schema.Space, base: schema.Experiment) -> None:
    """Refuse a space with a key that no setting has, a value of the wrong type, or a setting not to search over.

    Raises:
        UserError: As above; the key is named.
    """
    for key, values in space.values.items():
        if key.split(".")[0] in _MEASURES and key not in _CAN_DIFFER:
            raise UserError(
                f"{key} cannot be searched: it changes what is learned from or what is measured, so that trials could "
                "not be compared. Take it out of the space and set it for all trials."
            )
        if key in _MAKES_NO_DIFFERENCE:
            raise UserError(f"{key} cannot be searched: it does not change what is learned. Take it out of the space.")
        if key in ("model", "model.name") and isinstance(values, schema.Categorical):
            for value in values.options:
                resolve(str(value))
        for value in _probes(values):
            _typed(base, [f"{key}={text(value)}"], "The search space does not fit")
    for place in (0, -1):
        drawn = {key: _probes(values)[place] for key, values in space.values.items()}
        _typed(base, _assignments(space, base, drawn), "What the search space's derive gave does not fit")


def distributions(space: schema.Space) -> dict[str, BaseDistribution]:
    """The space as Optuna has it; options by how they are written behind "="."""
    return {key: _distribution(values) for key, values in space.values.items()}


def settings_of(space: schema.Space, base: schema.Experiment, params: Mapping[str, Any]) -> list[str]:
    """`key=value` of a trial, drawn and derived.

    Args:
        space: Where they were drawn.
        base: The experiment that is tuned.
        params: What Optuna drew, by key.

    Raises:
        UserError: `space.derive` failed.
    """
    return _assignments(space, base, {key: _value(values, params[key]) for key, values in space.values.items()})


def trial_experiment(base: schema.Experiment, settings: Sequence[str], *, name: str) -> schema.Experiment:
    """The experiment of a trial; without checkpoints, of which a study would keep too many.

    Raises:
        UserError: The settings exclude one another.
    """
    chosen = override(base, settings, GROUPS)
    checkpoints = dataclasses.replace(chosen.training.checkpoints, n_best=0)
    return dataclasses.replace(
        chosen,
        name=name,
        training=dataclasses.replace(chosen.training, checkpoints=checkpoints),
    )


def _distribution(values: schema.Float | schema.Int | schema.Categorical) -> BaseDistribution:
    if isinstance(values, schema.Categorical):
        return CategoricalDistribution([text(option) for option in values.options])
    if isinstance(values, schema.Int):
        return IntDistribution(values.low, values.high, log=values.log, step=values.step)
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step or None)


def _value(values: schema.Float | schema.Int | schema.Categorical, drawn: Any) -> Any:
    if isinstance(values, schema.Categorical):
        return {text(option): option for option in values.options}[drawn]
    return float(f"{drawn:.{DIGITS}g}") if isinstance(values, schema.Float) else int(drawn)


def _probes(values: schema.Float | schema.Int | schema.Categorical) -> list[Any]:
    """Values whose types tell for all of them: a Float has one that is not whole."""
    if isinstance(values, schema.Categorical):
        return list(values.options)
    if isinstance(values, schema.Int):
        return [values.low, values.high]
    between = values.low + (values.step or (values.high - values.low) / 3.7)
    return [_value(values, v) for v in (values.low, between, values.high)]


def _assignments(space: schema.Space, base: schema.Experiment, drawn: dict[str, Any]) -> list[str]:
    derived: Mapping[str, Any] = {}
    if space.derive is not None:
        try:
            derived = dict(space.derive(dict(drawn), base))
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"The search space's derive failed: {type(error).__name__}: {error}") from error
    return [f"{key}={text(value)}" for key, value in {**drawn, **derived}.items()]


def _typed(base: schema.Experiment, settings: Sequence[str], what: str) -> None:
    try:
        assigned(base, settings, GROUPS)
    except UserError as error:
        raise UserError(f"{what}: {error}") from None
