"""Signals stop at once, or at the end of what must be finished first."""

import os
import signal
from pathlib import Path

import pytest
from command_line import ROOT
from preloaded import run_python

from birdnet_fs.core.stopping import SIGNALS, Stopped, finished_first, listen, received


@pytest.fixture(autouse=True)
def listening(_signal_handlers):
    for name in SIGNALS:  # a test run in the background, or under nohup, ignores some of them
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    listen()


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


def test_a_cleanup_does_not_hide_the_error_that_it_follows() -> None:
    with pytest.raises(FloatingPointError):
        try:
            raise FloatingPointError
        finally:
            with finished_first():
                os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped), finished_first():
        pass


def in_process(code: str, folder: Path) -> str:
    """Output of a process that sends itself SIGTERM; pytest-timeout needs SIGALRM in this one."""
    (folder / "module_with_signal.py").write_text("import os\nos.kill(os.getpid(), 15)\nloaded = True\n")
    start = "import os, sys, time, weakref\nfrom birdnet_fs.core import stopping\nstopping.listen()\n"
    done = run_python(["-c", start + code], backend="", environment={"PYTHONPATH": str(ROOT)}, cwd=folder)
    assert done.stderr == "" and done.returncode == 0, done.stderr
    return done.stdout


def test_a_signal_waits_for_the_end_of_an_import(tmp_path: Path) -> None:
    """The initialization of a compiled module, which the exception would interrupt, can abort the process."""
    code = """
try:
    import module_with_signal
    print(module_with_signal.loaded, flush=True)
    time.sleep(9)
except stopping.Stopped:
    print("stopped")
"""
    assert in_process(code, tmp_path).split() == ["True", "stopped"]


def test_a_signal_in_a_callback_from_c_is_not_lost(tmp_path: Path) -> None:
    code = """
class Thing: pass
thing = Thing()
reference = weakref.ref(thing, lambda _: (os.kill(os.getpid(), 15), time.sleep(0)))
try:
    del thing
    print("went on", flush=True)
    time.sleep(9)
except stopping.Stopped:
    print("stopped")
"""
    assert in_process(code, tmp_path).split() == ["went", "on", "stopped"]


def test_signals_are_ignored_at_the_end(tmp_path: Path) -> None:
    code = """
import atexit
atexit.register(lambda: (os.kill(os.getpid(), 15), print("ended")))
stopping.stop_listening()
"""
    assert in_process(code, tmp_path).split() == ["ended"]
