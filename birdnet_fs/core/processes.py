"""Processes: the present machine and process, whether another one has ended, children that end with their parent."""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # before any fork, since loading is not safe after one


@functools.cache
def machine() -> str:
    """Identifier of this machine since its start and of its namespace of process numbers (containers), 8 digits."""
    name = platform.node()
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        name = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def start_time(pid: int) -> int:
    """Start of a process of this machine in clock ticks since the machine started; 0 where the system has no /proc.

    Together with its number it names a process, since numbers are used again.
    """
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def has_ended(pid: int, started: int) -> bool:
    """Whether a process of this machine has ended.

    Args:
        pid: Number of the process.
        started: `start_time` of the process; 0 = unknown.

    Returns:
        True when there is no such process any more, or only its exit status is left (a zombie); False where the system
        gives no answer (Windows).
    """
    if os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # a process of another user
        pass
    fields = _stat(pid)
    return bool(fields) and (fields[0] in "ZX" or bool(started and int(fields[19]) != started))


def end_with_parent(*_: object) -> None:
    """Let the kernel kill this process when its parent ends, however that ends; for `preexec_fn` and `worker_init_fn`.

    Signals that stop a command are left to the parent, which ends its children. Only Linux can do this.
    """
    for name in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"):  # sent to a whole process group by terminals and clusters
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # a loader that is sent SIGTERM with its parent would raise an error there, at any line, if it were killed by it
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; [] when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
