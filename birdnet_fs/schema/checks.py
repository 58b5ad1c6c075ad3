"""Checks shared by all groups of settings."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from birdnet_fs.core.errors import UserError


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
        raise UserError(f"{what}. Received: {received!r}")


def values(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Iterate over (dotted key, value) of all settings below a group; `prefix` starts every key."""
    for f in dataclasses.fields(group):
        value = getattr(group, f.name)
        if dataclasses.is_dataclass(value):
            yield from values(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, value
