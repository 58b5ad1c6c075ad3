"""Progress of long operations: a bar with rate and remaining time on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TextIO, TypeVar

from birdnet_fs.core.distributed import group
from birdnet_fs.core.text import escaped_lines

Item = TypeVar("Item")
_said: set[str] = set()


def track(items: Iterable[Item], what: str, *, total: int | None = None, unit: str = "it") -> Iterator[Item]:
    """Iterate over `items` and show the progress on stderr.

    Args:
        items: Items to iterate over.
        what: Short description shown in front of the bar.
        total: Number of items; needed for the remaining time when `items` has no length. Default: `len(items)`.
        unit: Name of one item. Default: "it".

    Yields:
        The items, unchanged.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if not group.is_main():
        yield from items
    elif sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=what, total=total, unit=unit, dynamic_ncols=True, leave=False)
    else:
        yield from _lines(items, what, total, unit)


class EscapedOutput:
    """A text stream on which control characters are written as escapes: they would reach the terminal otherwise.

    Args:
        stream: The stream, as `sys.stdout`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, with `escaped_lines`; returns the number of characters of `text`."""
        self._stream.write(escaped_lines(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(message: str, *, from_all: bool = False) -> None:
    """Print one line on stderr (stdout is for results), above the progress bar where one is shown.

    Args:
        message: The line. Control characters in it, which may come from names of files and classes, are written as
            escapes.
        from_all: Whether all processes of a group print it, instead of the main one only. Default: False.
    """
    if not (from_all or group.is_main()):
        return
    message = escaped_lines(message)
    if "tqdm" in sys.modules and sys.stderr.isatty():
        sys.modules["tqdm"].tqdm.write(message, file=sys.stderr)
    else:
        print(message, file=sys.stderr, flush=True)


def say_once(message: str) -> None:
    """Print one line on stderr, unless this process has printed the same one before."""
    if message not in _said:
        _said.add(message)
        say(message)


def _lines(items: Iterable[Item], what: str, total: int | None, unit: str, every_s: float = 10.0) -> Iterator[Item]:
    start = shown = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - shown >= every_s:
            shown, rate = now, count / (now - start)
            left = f", {(total - count) / rate:.0f} s left" if total else ""
            pace = f"{rate:.1f} {unit}/s" if rate >= 0.1 else f"{1 / rate:.0f} s/{unit}"
            say(f"{what}: {count}/{total or '?'} {unit}, {pace}{left}")
