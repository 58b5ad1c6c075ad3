"""Signals stop at once, or at the end of what must be finished first."""

import os
import signal

import pytest

from birdnet_fs.core import stopping
from birdnet_fs.core.stopping import SIGNALS, Stopped, finished_first, listen, received


@pytest.fixture(autouse=True)
def listening():
    before = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS}
    for name in SIGNALS:  # a test run in the background, or under nohup, ignores some of them
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    listen()
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)
    stopping._State.received, stopping._State.waiting = 0, False


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_stops_at_once_and_another_does_not_interrupt_the_cleanup(name: str) -> None:
    number = getattr(signal, name)
    assert received() == 0
    with pytest.raises(Stopped):
        os.kill(os.getpid(), number)
    assert received() == number
    for other in (signal.SIGTERM, signal.SIGUSR1):
        os.kill(os.getpid(), other)
    assert received() == number
    with pytest.raises(Stopped):  # a person who presses Ctrl-C again wants to go
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_waits_for_the_end_of_the_outermost_block() -> None:
    done = []
    with pytest.raises(Stopped), finished_first():
        with finished_first():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"] and received() == signal.SIGTERM
    with finished_first():
        done.append("cleanup")
    assert done[-1] == "cleanup"


def test_an_error_of_the_block_is_not_hidden() -> None:
    with pytest.raises(FloatingPointError), finished_first():
        os.kill(os.getpid(), signal.SIGUSR1)
        raise FloatingPointError
    assert received() == signal.SIGUSR1


def test_waiting_for_a_signal_that_is_on_its_way() -> None:
    assert received(0.02) == 0
    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        assert received(5.0) == signal.SIGTERM
    finally:
        signal.signal(signal.SIGALRM, before)


def test_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    listen()
    os.kill(os.getpid(), signal.SIGHUP)
    assert received() == 0
