"""Send a signal to a command while it works, and look at what it leaves: status, message, processes, files."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from command_line import started
from killed import leftovers

LIMIT_S = 60.0  # a guard against waiting for ever; 30 s are promised on an idle machine
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def interrupt(
    *arguments: object,
    cwd: Path,
    when: Callable[["subprocess.Popen[str]"], bool],
    number: signal.Signals = signal.SIGTERM,
    whole_group: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run `birdnet-fs ARGUMENTS` and send it a signal once `when` is true.

    The signal goes to all its processes, as clusters and terminals do, or to itself alone, as `kill` does. However it
    ends, it must end in time, without a traceback, and no process and no temporary file of it may be left.

    Returns:
        The finished process; its exit status is 0 if it was faster than the signal.
    """
    process = started(*arguments, cwd=cwd)
    try:
        while process.poll() is None and not (listens(process.pid, number) and when(process)):
            time.sleep(0.005)
        children = members(process.pid)
        sent = time.monotonic()
        if process.poll() is None:
            (os.killpg if whole_group else os.kill)(process.pid, number)
        out, err = process.communicate()
        assert time.monotonic() - sent < LIMIT_S
        status = process.returncode
        assert status in (0, 128 + number), err
        assert "Traceback" not in err and "Exception ignored" not in err, err
        assert status == 0 or f"stopped by {number.name}; the same command" in err, err
        assert not (left := members(process.pid)), f"{left} of {children} are alive"
    finally:
        process.kill()
    assert leftovers(cwd) == []
    assert list(cwd.rglob(".*.lock")) == []
    return subprocess.CompletedProcess(process.args, status, out, err)


def listens(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of a signal, which a command sets before it begins."""
    caught = re.search(r"SigCgt:\t([0-9a-f]+)", _read(f"/proc/{pid}/status"))
    return bool(caught and int(caught[1], 16) >> (number - 1) & 1)


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has taken, with its finished children."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS_PER_S if fields else 0.0


def members(session: int) -> list[str]:
    """Processes of a session, zombies included, as number, name and state."""
    found = []
    for entry in os.listdir("/proc"):
        head, _, rest = _read(f"/proc/{entry}/stat").rpartition(")") if entry.isdigit() else ("", "", "")
        if rest and int(rest.split()[3]) == session:
            found.append(f"{head}) {rest.split()[0]}")
    return found


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended
        return ""
