"""Cores, memory and disk that this process may use, with the limits of containers and of jobs on a cluster.

Linux limits a container or job in the files of its control group:
https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max, memory.max) and, before 2016,
https://docs.kernel.org/scheduler/sched-bwc.html (cpu.cfs_quota_us). Python counts the cores of the machine there.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")  # the tests read the files of another tree
_UNLIMITED = 1 << 60  # bytes; version 1 writes a number near 2^63 for "no limit"


@dataclass(frozen=True)
class Memory:
    """Memory in bytes; 0 where the system does not say."""

    total: int
    available: int
    is_limited: bool  # by a container or job, rather than by the machine


def n_cpus(root: Path = _ROOT) -> int:
    """Number of CPU cores that this process may use: its affinity, or the quota of its container, rounded up.

    Args:
        root: Folder that holds `proc` and `sys`. Default: the root of the file system.

    Returns:
        The number, 1 or more.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _groups(root, "cpu"):
        limit, period = (*_numbers(folder / "cpu.max"), 0, 0)[:2]
        if not limit:
            limit = (*_numbers(folder / "cpu.cfs_quota_us"), 0)[0]
            period = (*_numbers(folder / "cpu.cfs_period_us"), 0)[0]
        if limit > 0 and period > 0:
            cores = min(cores, -(-limit // period))
    return max(1, cores)


def memory(root: Path = _ROOT) -> Memory:
    """Memory that this process may use.

    Args:
        root: Folder that holds `proc` and `sys`. Default: the root of the file system.

    Returns:
        Total and available bytes. Memory that holds copies of files counts as available.
    """
    total = available = 0
    with contextlib.suppress(OSError, ValueError):
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.split()[1:]}
        total, available = sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)
    if not total and hasattr(os, "sysconf"):  # macOS
        with contextlib.suppress(OSError, ValueError):
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine = total
    for folder in _groups(root, "memory"):
        for limit_file, used_file in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = (*_numbers(folder / limit_file), 0)[0], (*_numbers(folder / used_file), 0)[0]
            if 0 < limit < min(total or _UNLIMITED, _UNLIMITED):
                total = limit
            if 0 < limit < _UNLIMITED:
                files = _statistic(folder / "memory.stat", "inactive_file")
                available = min(available or limit, max(0, limit - used + files))
    return Memory(total, available, is_limited=total < machine)


def free_disk(folder: Path) -> int:
    """Free bytes on the disk of a folder; 0 where the system does not say."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups of this process, the innermost first; limits hold in all of them."""
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            number, controllers, path = line.split(":", 2)
            if number != "0" and controller not in controllers.split(","):
                continue
            base = root / "sys/fs/cgroup" / ("" if number == "0" else controller)
            inner = base / path.lstrip("/")
            # inside a container the path is often that of the host, and the files lie in the base itself
            yield from (p for p in (inner, *inner.parents) if p == base or base in p.parents)


def _numbers(file: Path) -> list[int]:
    """Numbers of a file up to the first word that is none, such as "max"."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for word in file.read_text(encoding="ascii").split():
            found.append(int(word))
    return found


def _statistic(file: Path, name: str) -> int:
    """Value of a line `name value`; 0 when there is none."""
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
