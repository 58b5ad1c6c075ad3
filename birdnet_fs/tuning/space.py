"""Search spaces: checks before the first trial, and the settings of a trial.

A drawn value becomes `key=value` as on the command line, so that a trial is equal to `birdnet-fs train CONFIG:NAME`
with these settings.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import assigned, override, text
from birdnet_fs.frontend import preset
from birdnet_fs.runs.resolve import NEUTRAL_SETTINGS
from birdnet_fs.schema.networks import resolve

GROUPS = {"frontend": preset}
DIGITS = 6  # significant digits of a drawn number, so that it is easy to read and write
# trials that differ in these settings are not comparable
_DATA_SETTINGS = ("seed", "data", "episodes", "pretrain")
_SEARCHABLE_DATA_SETTINGS = ("data.secondary", "data.secondary_target", "episodes.n_train")
_WITHOUT_EFFECT = (  # on the value of a trial
    "name",
    "debug",
    "training.checkpoints.select",
    *NEUTRAL_SETTINGS,
)


def check_space(space: schema.Space, base: schema.Experiment) -> None:
    """Check that every key is a setting that may be searched, with values of its type.

    Args:
        space: The search space.
        base: The experiment that is tuned.

    Raises:
        UserError: A key or value does not fit; the key is named.
    """
    for key, values in space.values.items():
        if key in _WITHOUT_EFFECT:
            raise UserError(f"{key} cannot be searched: it does not change the network. Remove it from the space.")
        if key.split(".")[0] in _DATA_SETTINGS and key not in _SEARCHABLE_DATA_SETTINGS:
            raise UserError(
                f"{key} cannot be searched: it changes the training or validation data, so that trials are not "
                "comparable. Remove it from the space and set it for all trials."
            )
        if key in ("model", "model.name") and isinstance(values, schema.Categorical):
            for value in values.options:
                resolve(str(value))
        for value in _probes(values):
            _typed(base, [f"{key}={text(value)}"], "The search space does not fit")
    for place in (0, -1):
        drawn = {key: _probes(values)[place] for key, values in space.values.items()}
        _typed(base, _assignments(space, base, drawn), "The settings from derive of the search space do not fit")


def distributions(space: schema.Space) -> dict[str, BaseDistribution]:
    """Convert the space to Optuna's distributions; options are written as behind "="."""
    return {key: _distribution(values) for key, values in space.values.items()}


def settings_of(space: schema.Space, base: schema.Experiment, params: Mapping[str, Any]) -> list[str]:
    """Return the settings of a trial, drawn and derived.

    A UserError of `space.derive` is passed on, and any other error of it becomes one.

    Args:
        space: The search space.
        base: The experiment that is tuned.
        params: Values drawn by Optuna, by key.

    Returns:
        Settings `key=value`.
    """
    return _assignments(space, base, {key: _value(values, params[key]) for key, values in space.values.items()})


def trial_experiment(base: schema.Experiment, settings: Sequence[str], *, name: str) -> schema.Experiment:
    """Build the experiment of a trial, without checkpoints, which would fill the disk.

    A UserError for settings that exclude one another is passed on.

    Args:
        base: The experiment that is tuned.
        settings: Settings `key=value`.
        name: Name of the experiment.

    Returns:
        The experiment.
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
    """Values whose types stand for all values of the range; one of a Float is not a whole number."""
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
            raise UserError(f"derive of the search space failed: {type(error).__name__}: {error}") from error
    return [f"{key}={text(value)}" for key, value in {**drawn, **derived}.items()]


def _typed(base: schema.Experiment, settings: Sequence[str], what: str) -> None:
    try:
        assigned(base, settings, GROUPS)
    except UserError as error:
        raise UserError(f"{what}: {error}") from None
