"""Options that decide which scores are written: cutting rule, thresholds and species list, checked in one place."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs.analysis.grid_scores import grid_rule
from birdnet_fs.core.class_names import folded_name, scientific_and_common
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats.cells import NO_CALL
from birdnet_fs.data.targets import UNKNOWN_CLASS
from birdnet_fs.data.windows import WindowRule, overlap_rule
from birdnet_fs.inference.engine import Engine

MIN_CONFIDENCE = 0.25  # default threshold, unless top_n is given


@dataclass(frozen=True)
class ScoringOptions:
    """Checked options of an analysis.

    Attributes:
        rule: Rule by which recordings are cut into windows.
        min_confidence: Lowest probability of a detection, 0..1.
        top_n: Highest number of classes per window; 0 = no limit.
        merge_consecutive: Highest number of consecutive windows that are merged; 1 = none, 0 = no limit.
        allowed: Indices of the classes that are ranked in a window.
        no_call: Indices of `allowed` that are no detections, because they mean that nothing calls.
        grid_s: Length of the rows whose scores are means over windows, in seconds; 0 = each window has its own.
        event_low: Lowest probability of a frame in an event; 0 = detections are windows, not events.
        event_median_s: Length of the median filter over frames in seconds; 0 = none.
    """

    rule: WindowRule
    min_confidence: float
    top_n: int
    merge_consecutive: int
    allowed: tuple[int, ...]
    no_call: tuple[int, ...] = ()
    grid_s: float = 0.0
    event_low: float = 0.0
    event_median_s: float = 0.0


@dataclass(frozen=True)
class EventOptions:
    """Events from the scores of frames, for a network with the head "sed".

    Attributes:
        low: Lowest probability of a frame in an event, above 0; 0 (default) = half of the lowest confidence.
        median_s: Length of the median filter over frames in seconds, 0 or more. Default: 0, none.
    """

    low: float = 0.0
    median_s: float = 0.0


def check_options(
    engine: Engine,
    *,
    min_confidence: float | None,
    overlap_s: float,
    top_n: int,
    merge_consecutive: int,
    species: Collection[str],
    grid_s: float = 0.0,
    events: EventOptions | None = None,
) -> ScoringOptions:
    """Check the options of an analysis.

    Args:
        engine: Model; its segment length, sample rate and classes are used.
        min_confidence: Lowest probability of a detection, 0..1; None = 0.25, or 0 when `top_n` is given.
        overlap_s: Overlap of consecutive windows in seconds, 0 or more and below the segment length.
        top_n: Highest number of classes per window; 0 = no limit.
        merge_consecutive: Highest number of consecutive windows that are merged; 1 = none, 0 = no limit.
        species: Class names or scientific names that may be detected; none = all.
        grid_s: Length of a row in seconds, as in `grid_scores.grid_rule`; with an overlap of 0 the hop is the longest
            that fits the rows. Default: 0, windows are not averaged.
        events: Detections are events of frames with onset and offset. Default: None, they are windows.

    Returns:
        The options.

    Raises:
        UserError: A value is out of range, or no name of the species list is a class.
    """
    if min_confidence is None:
        min_confidence = 0.0 if top_n else MIN_CONFIDENCE
    if not 0 <= min_confidence <= 1:
        raise UserError(f"min_conf must be in 0..1. Received: {min_confidence}")
    for name, value in (("top_n", top_n), ("merge_consecutive", merge_consecutive)):
        if value < 0:
            raise UserError(f"{name} must be 0 (no limit) or more. Received: {value}")
    rule = overlap_rule(engine.segment_s, engine.sample_rate_hz, overlap_s)
    if grid_s:
        rule = grid_rule(engine, grid_s, engine.segment_s - overlap_s if overlap_s else 0.0)
    allowed = allowed_classes(engine.classes, species)
    silent = no_call_classes(engine.classes, species)
    if set(allowed) == set(silent):
        raise UserError(
            f"None of the classes {', '.join(map(escaped, engine.classes[:5]))} is a detection: names such as noise, "
            "nocall and unknown mean that nothing calls. Name one with --slist to write it all the same."
        )
    low_and_median = (0.0, 0.0)
    if events is not None:
        _check_windows_only(top_n=top_n, merge_consecutive=merge_consecutive, grid=grid_s)
        low_and_median = _events(engine, events, min_confidence)
    given = (rule, min_confidence, top_n, merge_consecutive, allowed, silent, grid_s)
    return ScoringOptions(*given, *low_and_median)


def _check_windows_only(**options: float) -> None:
    """Refuse options that have no effect on events."""
    for name, value in options.items():
        if value != (1 if name == "merge_consecutive" else 0):
            raise UserError(f"{name} is for windows and has no effect on events; leave it out. Received: {value}")


def _events(engine: Engine, events: EventOptions, min_confidence: float) -> tuple[float, float]:
    """Low threshold and length of the median filter, checked."""
    if engine.frames is None:
        raise UserError("Events need a network with scores of frames: a run with model.head=sed, not calibrated.")
    low = events.low or min_confidence / 2
    if not 0 < low <= min_confidence:
        raise UserError(
            f"event_low must be above 0 and at most the lowest confidence of an event, {min_confidence:g}. "
            f"Received: {low:g}"
        )
    if not 0 <= events.median_s < math.inf:
        raise UserError(f"event_median must be 0 or more seconds. Received: {events.median_s}")
    return low, events.median_s


def no_call_classes(classes: Sequence[str], species: Collection[str] = ()) -> tuple[int, ...]:
    """Indices of the classes that mean that nothing calls: words of `cells.NO_CALL`, and "unknown" of enrolled runs.

    Args:
        classes: Class names of the model.
        species: The species list; a name that is on it as it is written is a detection like any other. Default: none.

    Returns:
        Class indices, sorted.

    >>> no_call_classes(["Parus major", "noise", "unknown"]), no_call_classes(["call", "Noise"], ["Noise"])
    ((1, 2), ())
    """
    wanted = set(species)
    return tuple(
        index
        for index, label in enumerate(classes)
        if label not in wanted and (label.lower() in NO_CALL or label.lower() == UNKNOWN_CLASS)
    )


def allowed_classes(classes: Sequence[str], species: Collection[str]) -> tuple[int, ...]:
    """Indices of the classes in a species list.

    A name selects the class of that name, else all classes of that scientific name (`Turdus merula`, with any common
    name), both compared without case, Unicode normalization and the difference of `_` and space where nothing is equal.
    It never selects another species of the genus. Names that are no class are ignored and counted on stderr, because
    lists are made for regions, not for models.

    Args:
        classes: Class names of the model.
        species: Class names or scientific names; none = all classes.

    Returns:
        Class indices, sorted.

    Raises:
        UserError: No name is a class.

    >>> allowed_classes(["Turdus merula_Blackbird", "nocall"], ["Turdus merula"])
    (0,)
    """
    if not species:
        return tuple(range(len(classes)))
    places = [_places(classes, str), _places(classes, folded_name)]
    places += [_places(classes, _scientific), _places(classes, lambda name: folded_name(_scientific(name)))]
    fits = {line: _selected(line, places) for line in species}
    unknown = [line for line, found in fits.items() if not found]
    if len(unknown) == len(fits):
        raise UserError(
            f"None of the {len(fits)} names in the species list is a class of the model."
            f"{nearest(unknown[0], classes)} First name received: {escaped(unknown[0])!r}"
        )
    if unknown:
        first = escaped(unknown[0])
        say(f"species list: {len(unknown)} of {len(fits)} names are not classes of the model, first {first!r}")
    return tuple(sorted(set().union(*fits.values())))


def _scientific(name: str) -> str:
    return scientific_and_common(name)[0]


def _places(classes: Sequence[str], key: Callable[[str], str]) -> tuple[Callable[[str], str], dict[str, set[int]]]:
    """The function and the indices of the classes by its value."""
    found: dict[str, set[int]] = {}
    for index, label in enumerate(classes):
        found.setdefault(key(label), set()).add(index)
    return key, found


def _selected(line: str, places: Sequence[tuple[Callable[[str], str], dict[str, set[int]]]]) -> set[int]:
    return next((found[key(line)] for key, found in places if key(line) in found), set())


def read_species(path: Path | str) -> list[str]:
    """Read a species list.

    Args:
        path: UTF-8 text with one name per line; empty lines and lines that start with `#` are ignored.

    Returns:
        The names.

    Raises:
        UserError: The file cannot be read, is not UTF-8 or holds no name.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            names = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    except OSError as error:
        raise UserError(f"The species list {path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise UserError(f"The species list {path} must be UTF-8 text; save it again as UTF-8.") from None
    if not names:
        raise UserError(f"The species list {path} holds no name; write one species per line.")
    return names
