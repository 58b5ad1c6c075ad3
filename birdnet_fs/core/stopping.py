"""Signals that stop a command: Ctrl-C, and those that clusters, systemd and closed terminals send.

A command that was stopped ends with the exit status 128 + the number of the signal: 130 (SIGINT), 143 (SIGTERM),
138 (SIGUSR1 on Linux), 140 (SIGUSR2, of submitit), 129 (SIGHUP). The same command given again continues the work.

A handler may run between any two instructions, also where an exception does harm: the initialization of a compiled
module aborts the process, and a callback from C (of a weak reference, of a fork) drops it. `Stopped` is raised a moment
later instead, or once more.
"""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

RETRY_S = 0.05
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP")  # those that exist on this system are used


class _State:
    received = 0  # number of the first signal
    n_blocks = 0  # `finished_first` blocks that are being executed
    waiting = False  # whether a signal waits for their end


class Stopped(KeyboardInterrupt):
    """A signal has stopped the command."""


def listen() -> None:
    """Let the signals of SIGNALS raise `Stopped`; one that is ignored (nohup) stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        return
    _State.received, _State.waiting = 0, False
    sys.unraisablehook = _repeat_dropped
    for number in _numbers():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def stop_listening() -> None:
    """Ignore signals from now on: the work is done or stopped, and only the process has to end.

    Ctrl-C ends it at once.
    """
    for number in _numbers():
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGINT else signal.SIG_IGN)
    if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is _again:
        signal.setitimer(signal.ITIMER_REAL, 0)


def received(within_s: float = 0.0) -> int:
    """Return the first signal that has stopped the command.

    Args:
        within_s: Seconds to wait for one that is on its way. Default: 0.

    Returns:
        Its number; 0 when there was none.
    """
    end = time.monotonic() + within_s
    with contextlib.suppress(Stopped), finished_first():
        while not _State.received and time.monotonic() < end:
            time.sleep(0.01)
    return _State.received


def stop(number: int) -> None:
    """Raise `Stopped` now, for a signal that this process holds back or that another process of its group received.

    Args:
        number: Number of the signal.

    Raises:
        Stopped: Always.
    """
    _State.received, _State.waiting = _State.received or number, False
    raise Stopped


@contextlib.contextmanager
def finished_first() -> Iterator[None]:
    """Let a signal that arrives during the block raise `Stopped` at its end: for a batch, or a result being saved.

    While another exception is handled, as in a cleanup, nothing is raised that would hide it; the next block raises.
    Only the main thread receives signals; in others the block changes nothing.

    Yields:
        Nothing.

    Raises:
        Stopped: A signal arrived.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.n_blocks += 1
    try:
        yield
    finally:
        _State.n_blocks -= 1
    if _State.waiting and not _State.n_blocks and sys.exc_info()[0] is None:
        _State.waiting = False
        raise Stopped


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]


def _stop(number: int, frame: FrameType | None) -> None:
    repeated, _State.received = bool(_State.received), _State.received or number
    if repeated and number != signal.SIGINT:
        return  # the command is stopping, and its cleanup must not be interrupted
    _raise_or_wait(frame)


def _again(_: int, frame: FrameType | None) -> None:
    _raise_or_wait(frame)


def _raise_or_wait(frame: FrameType | None) -> None:
    if _State.n_blocks:
        _State.waiting = True
    elif _is_importing(frame):
        _retry()
    else:
        raise Stopped


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _retry() -> None:
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, _again)
        signal.setitimer(signal.ITIMER_REAL, RETRY_S)
    else:
        raise Stopped


def _repeat_dropped(unraisable: Any) -> None:
    """Raise `Stopped` again that a callback from C has dropped; other exceptions are printed as always."""
    if unraisable.exc_type is not Stopped:
        sys.__unraisablehook__(unraisable)
    elif threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        _retry()
