"""Keep messages of a C library off the terminal while it decodes.

libmpg123, inside libsndfile, prints to the C stream `stderr`, also for files that it decodes well, and libsndfile
prints to `stdout` for some damaged ones. These streams, and not the file descriptors behind them, are exchanged during
a call: messages of Python, of other threads and of child processes go through the descriptors and are shown as before.
"""

import contextlib
import ctypes
import functools
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

_lock = threading.Lock()
_inside = 0  # calls under way in all threads
_shown: tuple[Any, ...] = ()  # the streams to return to


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Discard what C code prints inside the `with` block; without effect where C has no such symbols."""
    global _inside, _shown
    streams, nowhere = _streams()
    with _lock:
        if _inside == 0:
            _shown = tuple(stream.value for stream in streams)
            for stream in streams:
                stream.value = nowhere
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _show()


@functools.cache
def _streams() -> tuple[tuple[Any, ...], Any]:
    """The variables `stdout` and `stderr` of the C library, and a stream that discards everything."""
    names = ("__stdoutp", "__stderrp") if sys.platform == "darwin" else ("stdout", "stderr")
    try:
        library = ctypes.CDLL(None)
        streams = tuple(ctypes.c_void_p.in_dll(library, name) for name in names)
        library.fopen.restype = ctypes.c_void_p
        nowhere = library.fopen(os.devnull.encode(), b"w")
    except (OSError, TypeError, ValueError, AttributeError):
        return (), None
    if not nowhere:
        return (), None
    os.register_at_fork(after_in_child=_forked)
    return streams, nowhere


def _show() -> None:
    for stream, value in zip(_streams()[0], _shown, strict=True):
        stream.value = value


def _forked() -> None:
    """In a child that was forked during a call of another thread, which does not exist there."""
    global _inside, _lock
    _lock = threading.Lock()
    if _inside:
        _inside = 0
        _show()
