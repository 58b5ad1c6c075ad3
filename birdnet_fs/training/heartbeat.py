"""Whether the process behind a file is alive, on this machine or on another that shares the folder.

A living process touches its file every BEAT_S seconds. Clocks of two machines need not agree, so a watcher does not
read the time of the file but sees whether it changes. On its own machine it asks the system, which answers at once.
"""

import contextlib
import json
import os
import platform
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Literal

from birdnet_fs.plumbing.files import write_json

BEAT_S = 10.0
GRACE_S = 120.0  # an NFS client may show a file's time up to 60 s late (acregmax)
State = Literal["alive", "dead", "unknown"]


class Beat:
    """While inside, `path` says that this process is alive.

    Args:
        path: The file; gone afterwards.
        every_s: Seconds from one touch to the next.
    """

    def __init__(self, path: Path, *, every_s: float = BEAT_S) -> None:
        self.path, self.every_s = path, every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Beat":
        write_json(self.path, {"machine": _machine(), "pid": os.getpid()})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._end.wait(self.every_s):
            with contextlib.suppress(OSError):  # a full or absent disk comes back, or others take this for dead
                os.utime(self.path)


class Watch:
    """What can be said about the processes behind files, each time it is asked.

    Args:
        grace_s: Seconds without a beat after which a process is dead.
    """

    def __init__(self, *, grace_s: float = GRACE_S) -> None:
        self.grace_s = grace_s
        self._seen: dict[Path, tuple[int, float, bool]] = {}  # time of the file, when it was first seen, whether moved

    def __call__(self, path: Path) -> State:
        """ "unknown" until the file was seen to change, or not to for long enough; one that is not there is silent."""
        now, touched = time.monotonic(), _touched(path)
        if _is_gone(path):
            return "dead"
        before = self._seen.get(path)
        if before is None or touched != before[0]:
            self._seen[path] = (touched, now, before is not None)
            return "unknown" if before is None else "alive"
        if now - before[1] > self.grace_s:
            return "dead"
        return "alive" if before[2] else "unknown"


def _touched(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _is_gone(path: Path) -> bool:
    """True when the file names a process of this machine that is no more."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        if os.name != "posix" or owner["machine"] != _machine():
            return False
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return False


def _machine() -> str:
    """This machine since it was started, and where its process numbers count (containers have their own)."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return platform.node()
