"""JSON files that may come from a stranger: bounded in size, depth and numbers, and refused with a reason.

Python's own reader accepts more than the JSON of this package ever holds: NaN and 1e400, whole numbers of a million
digits, two values of one key, objects nested until the interpreter stops. A file that is written by hand or damaged has
such parts too, so every reader of the package uses this one.
"""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

MAX_BYTES = 8_000_000  # 100,000 class names of 80 characters; parsed, the worst such file takes 0.5 GB
MAX_DEPTH = 32  # of objects and lists; an experiment has 4, and 2 more for each pretraining inside another
MAX_DIGITS = 20  # of a whole number: those of 64 bits have 19


def read_json(file: Path, remedy: str, *, max_bytes: int = MAX_BYTES) -> Any:
    """Read a JSON file.

    Args:
        file: The file.
        remedy: Clause for the end of the message, as "copy it again".
        max_bytes: Largest size of the file. Default: 8,000,000.

    Returns:
        The value: dict, list, str, int, finite float, bool or None.

    Raises:
        UserError: The file is missing, larger than `max_bytes`, or not JSON (`parse_json`).
    """
    try:
        with open(file, "rb") as opened:
            data = opened.read(max_bytes + 1)
    except OSError as error:
        raise UserError(f"{escaped(file)} cannot be read ({error.strerror}); {remedy}.") from None
    try:
        if len(data) > max_bytes:
            raise ValueError(f"it has more than {max_bytes:,} bytes")
        return parse_json(data)
    except ValueError as error:
        raise UserError(f"{escaped(file)} is not readable JSON ({escaped(error)}); {remedy}.") from None


def parse_json(data: bytes) -> Any:
    """Parse JSON.

    Args:
        data: UTF-8 text.

    Returns:
        The value: dict, list, str, int, finite float, bool or None.

    Raises:
        ValueError: The data is not JSON in UTF-8, has NaN or infinity, a whole number of more than 20 digits, a key
            twice in one object, or more than 32 levels.

    >>> parse_json(b'{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    >>> parse_json(b"[1e400]")
    Traceback (most recent call last):
    ...
    ValueError: the number 1e400 is too large
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_constant=_constant,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_object,
        )
        if not _deeper(value, MAX_DEPTH):
            return value
    except RecursionError:
        pass
    raise ValueError(f"objects and lists are nested more than {MAX_DEPTH} deep")


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:MAX_DIGITS]} is too large")
    return value


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise ValueError(f"the key {twice[:100]!r} is given twice")
    return value


def _deeper(value: Any, limit: int) -> bool:
    """Whether dicts and lists are nested more than `limit` deep; without recursion, which deep values exhaust."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(limit):
        inner = (part for outer in level for part in (outer.values() if isinstance(outer, dict) else outer))
        level = [part for part in inner if isinstance(part, (dict, list))]
    return bool(level)
