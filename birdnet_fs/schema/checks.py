"""What every group of settings checks with."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from birdnet_fs.core.errors import UserError


def check(holds: bool, what: str, received: object) -> None:
    """Refuses a setting: UserError with what was expected and what was received, unless it holds."""
    if not holds:
        raise UserError(f"{what}. Received: {received!r}")


def values(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every value below a group with its dotted key."""
    for f in dataclasses.fields(group):
        value = getattr(group, f.name)
        if dataclasses.is_dataclass(value):
            yield from values(value, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, value
