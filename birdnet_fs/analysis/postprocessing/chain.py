"""Chains of post-processing steps, written as `smooth,file_topk:k=2:power=0.4`.

Steps are separated by commas and applied in this order; the settings of a step follow it, each behind a colon. The text
of a chain is what `analyze --post` takes and what a calibration stores, so that thresholds are used with the scores
that they were chosen on.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis.combined.clock_time import recording_start
from birdnet_fs.analysis.postprocessing import recording_steps as steps
from birdnet_fs.analysis.postprocessing.class_weights import read_site_weights, read_weights, site_of, weigh
from birdnet_fs.analysis.postprocessing.location import LEAST, N_WEEKS, species_weights
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.files import sha256
from birdnet_fs.core.progress import say_once
from birdnet_fs.core.text import escaped

Scores = NDArray[np.float32]
MAX_KERNEL = 101


class Setting(NamedTuple):
    """A setting of a step.

    Attributes:
        default: Value where it is not given; None = it must be given.
        low: Lowest number; 0 for other kinds.
        high: Highest number; 0 for other kinds.
        kind: "number", "whole" (a whole number), "kernel" (numbers separated by /) or "file".
    """

    default: Any
    low: float = 0.0
    high: float = 0.0
    kind: str = "number"


class Windows(NamedTuple):
    """The windows of the scores of a recording.

    Attributes:
        recording: The recording; None for sound that is in none.
        start_s: [n_windows], start of each window in seconds.
    """

    recording: Path | None
    start_s: NDArray[np.float64]


Values = Mapping[str, Any]
StepFunction = Callable[[Scores, Windows | None], Scores]
MakeStep = Callable[[Values, Sequence[str]], StepFunction]


class Step(NamedTuple):
    """A kind of step.

    Attributes:
        settings: Settings of the step by name.
        make: Values of the settings, and class names -> a function of the scores and windows of a recording.
    """

    settings: Mapping[str, Setting]
    make: MakeStep


def _plain(function: Callable[..., Scores]) -> MakeStep:
    return lambda values, classes: lambda scores, windows: function(scores, **values)


def _weights(values: Values, classes: Sequence[str]) -> StepFunction:
    weights = read_weights(values["table"], classes)
    return lambda scores, windows: weigh(scores, weights)


def _hours(values: Values, classes: Sequence[str]) -> StepFunction:
    weights = read_weights(values["table"], classes, by_hour=True)

    def step(scores: Scores, windows: Windows | None) -> Scores:
        if windows is None or windows.recording is None:
            return scores
        clock = recording_start(windows.recording)
        times = [clock.at(second) for second in windows.start_s.tolist()]
        hours = [time.hour for time in times if time is not None]
        if len(hours) < len(times):
            say_once("The step hours leaves the scores of recordings without a clock time as they are.")
            return scores
        return weigh(scores, weights[hours])

    return step


def _sites(values: Values, classes: Sequence[str]) -> StepFunction:
    by_site = read_site_weights(values["table"], classes)

    def step(scores: Scores, windows: Windows | None) -> Scores:
        if windows is None or windows.recording is None:
            return scores
        site = site_of(windows.recording, by_site)
        if site is None:
            say_once(
                "The step sites leaves the scores of recordings as they are whose path names no site of its table."
            )
            return scores
        return weigh(scores, by_site[site])

    return step


def _location(values: Values, classes: Sequence[str]) -> StepFunction:
    given = {name: values[name] for name in ("lat", "lon", "week", "least")}
    occurs = species_weights(values["model"], classes, **given)
    return lambda scores, windows: weigh(scores, occurs)


STEPS: Mapping[str, Step] = {
    "smooth": Step({"kernel": Setting(steps.KERNEL, kind="kernel")}, _plain(steps.smooth)),
    "delta": Step({"alpha": Setting(0.2, 0, 1)}, _plain(steps.delta)),
    "file_topk": Step({"k": Setting(1, 1, 1e6, "whole"), "power": Setting(1.0, 0, 10)}, _plain(steps.file_topk)),
    "tail_power": Step({"top": Setting(30, 0, 1e6, "whole"), "power": Setting(2.0, 1, 10)}, _plain(steps.tail_power)),
    "weights": Step({"table": Setting(None, kind="file")}, _weights),
    "hours": Step({"table": Setting(None, kind="file")}, _hours),
    "sites": Step({"table": Setting(None, kind="file")}, _sites),
    "location": Step(
        {
            "model": Setting(None, kind="file"),
            "lat": Setting(None, -90, 90),
            "lon": Setting(None, -180, 180),
            "week": Setting(-1, -1, N_WEEKS, "whole"),
            "least": Setting(LEAST, 0, 1),
        },
        _location,
    ),
}


@dataclass(frozen=True)
class Chain:
    """A chain for the classes of a model.

    Attributes:
        text: The chain with all settings, as `parse_chain` reads it again; "" changes nothing.
        identity: The text, and the SHA-256 of the files that it names.
        steps: Functions of the scores and windows of a recording, in order.
    """

    text: str
    identity: str
    steps: tuple[StepFunction, ...] = ()

    def __call__(self, scores: Scores, windows: Windows | None = None) -> Scores:
        """Apply all steps.

        Args:
            scores: float32 [n_windows, n_classes] in 0..1, the windows of one recording in order.
            windows: Their recording and times, which the steps `hours` and `sites` need. Default: None, unknown.

        Returns:
            float32 [n_windows, n_classes] in 0..1.
        """
        for step in self.steps if len(scores) else ():
            scores = step(scores, windows)
        return scores


def make_chain(text: str, classes: Sequence[str]) -> Chain:
    """Read a chain and the files that it names.

    UserErrors of `parse_chain`, `read_weights` and `species_weights` are passed on.

    Args:
        text: The chain; "" for none.
        classes: Class names of the model.

    Returns:
        The chain.
    """
    parsed = parse_chain(text)
    functions = tuple(STEPS[name].make(values, classes) for name, values in parsed)
    files = [sha256(value) for _, values in parsed for value in values.values() if isinstance(value, Path)]
    full = ",".join(_text(name, values) for name, values in parsed)
    return Chain(full, hashlib.sha256(" ".join([full, *files]).encode()).hexdigest() if full else "", functions)


def parse_chain(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Read the steps and settings of a chain.

    Args:
        text: Steps, such as `smooth,file_topk:k=2`; "" for no step.

    Returns:
        (name, values of all its settings) of each step.

    Raises:
        UserError: A step or setting is unknown, missing or given twice, a value is out of range, or a file does not
            exist.
    """
    found = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, *given = part.split(":")
        if name not in STEPS:
            raise UserError(
                f"A post-processing step must be one of {', '.join(STEPS)}.{nearest(name, STEPS)} Received: "
                f"{escaped(name)!r}"
            )
        settings, values = STEPS[name].settings, dict[str, Any]()
        for each in given:
            key, equals, value = each.partition("=")
            if not equals or key not in settings or key in values:
                hint = nearest(key, settings)
                raise UserError(
                    f"Settings of the step {name} are {', '.join(f'{k}=VALUE' for k in settings)}, each once.{hint} "
                    f"Received: {escaped(each)!r}"
                )
            values[key] = _value(f"{name}:{key}", value, settings[key])
        missing = [key for key, setting in settings.items() if setting.default is None and key not in values]
        if missing:
            raise UserError(f"The step {name} needs {', '.join(f':{key}=VALUE' for key in missing)}.")
        found.append((name, {key: values.get(key, setting.default) for key, setting in settings.items()}))
    return found


def _value(name: str, text: str, setting: Setting) -> Any:
    if setting.kind == "file":
        if not Path(text).is_file():
            raise UserError(f"{name} must be a file that exists. Received: {escaped(text)!r}")
        return Path(text)
    try:
        numbers = [float(each) for each in text.split("/")]
    except ValueError:
        numbers = []
    if setting.kind == "kernel":
        if (
            not 1 <= len(numbers) <= MAX_KERNEL
            or len(numbers) % 2 == 0
            or min(numbers) < 0
            or not 0 < sum(numbers) < 1e9
        ):
            raise UserError(
                f"{name} must be an odd number of weights, 0 or more, separated by /, as 0.25/0.5/0.25. Received: "
                f"{escaped(text)!r}"
            )
        return tuple(numbers)
    whole = setting.kind == "whole"
    if len(numbers) != 1 or not setting.low <= numbers[0] <= setting.high or (whole and numbers[0] != int(numbers[0])):
        kind = "a whole number" if whole else "a number"
        raise UserError(f"{name} must be {kind} in {setting.low:g}..{setting.high:g}. Received: {escaped(text)!r}")
    return int(numbers[0]) if whole else numbers[0]


def _text(name: str, values: Values) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, tuple):
            return "/".join(map(shown, value))
        # the shortest number that is read as the same again
        return repr(value).removesuffix(".0") if isinstance(value, (int, float)) else str(value)

    return ":".join([name, *(f"{key}={shown(value)}" for key, value in values.items())])
