"""Signals that stop a command: Ctrl-C, and those that clusters, systemd and closed terminals send.

A command that was stopped ends with the exit status 128 + the number of the signal: 130 (SIGINT), 143 (SIGTERM),
138 (SIGUSR1 on Linux), 129 (SIGHUP). The same command given again continues the work.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")  # those that exist on this system are used


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
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


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


@contextlib.contextmanager
def finished_first() -> Iterator[None]:
    """Let a signal that arrives during the block raise `Stopped` at its end: for a batch, or a result being saved.

    Yields:
        Nothing.

    Raises:
        Stopped: A signal arrived.
    """
    _State.n_blocks += 1
    try:
        yield
    finally:
        _State.n_blocks -= 1
    if _State.waiting and not _State.n_blocks:
        _State.waiting = False
        raise Stopped


def _stop(number: int, _: object) -> None:
    repeated, _State.received = bool(_State.received), _State.received or number
    if repeated and number != signal.SIGINT:
        return  # the command is stopping, and its cleanup must not be interrupted
    if _State.n_blocks:
        _State.waiting = True
        return
    raise Stopped
