"""Checks shared by all groups of settings."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from birdnet_fs.core.errors import UserError, shown


def check(holds: bool, what: str, received: object) -> None:
    """Raise an error when a condition on a setting does not hold.

    Args:
        holds: Whether the condition holds.
        what: The requirement, as "training.epochs must be 1 or more".
        received: The value received, shown in the message.

    Raises:
        UserError: `holds` is false.
    """
    if not holds:
        raise UserError(f"{what}. Received: {shown(received)}")


def check_largest(group: Any, prefix: str, largest: Mapping[str, float]) -> None:
    """Refuse settings above their bounds, which protect the memory and the time of whoever opens a stranger's run.

    Args:
        group: The settings.
        prefix: Put before the keys in the message, as "training.".
        largest: Largest absolute value by name; of a setting with several values the largest of each.

    Raises:
        UserError: A value is larger, or not a number.
    """
    for name, limit in largest.items():
        value = getattr(group, name)
        numbers = value if isinstance(value, tuple) else (value,)
        check(all(abs(number) <= limit for number in numbers), f"{prefix}{name} must be {limit} or less", value)


def values(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Iterate over (dotted key, value) of all settings below a group; `prefix` starts every key."""
    for f in dataclasses.fields(group):
        value = getattr(group, f.name)
        if dataclasses.is_dataclass(value):
            yield from values(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, value
