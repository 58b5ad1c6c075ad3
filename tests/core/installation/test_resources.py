"""Cores, memory and disk, also in containers and jobs whose limits are lower than those of the machine."""

import os
from pathlib import Path

import pytest

from birdnet_fs.core.installation.resources import Memory, free_disk, memory, n_cpus

MEMINFO = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n"
GIB = 1 << 30


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/job/step\n", "sys/fs/cgroup/job/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/host/path\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        ({"proc/self/cgroup": "not a line\n"}, 8),
    ],
)
def test_cores_are_those_of_the_quota(files: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert n_cpus(tree(tmp_path, files)) == cores


def test_cores_are_those_of_the_affinity() -> None:
    assert 1 <= n_cpus() <= len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count()))


def test_memory_is_that_of_the_machine_without_a_limit(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}
    assert memory(tree(tmp_path, files)) == Memory(16 * GIB, 8 * GIB, is_limited=False)


def test_memory_is_that_of_the_job_and_copies_of_files_count_as_available(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/job\n",
        "sys/fs/cgroup/job/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/job/memory.current": f"{3 * GIB}\n",
        "sys/fs/cgroup/job/memory.stat": f"anon 5\ninactive_file {GIB}\n",
    }
    assert memory(tree(tmp_path, files)) == Memory(4 * GIB, 2 * GIB, is_limited=True)


def test_the_first_version_of_limits_and_its_word_for_none(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/memory."
    files = {"proc/self/cgroup": "9:memory:/\n", f"{group}usage_in_bytes": f"{GIB}\n"}
    unlimited = files | {f"{group}limit_in_bytes": "9223372036854771712\n"}
    assert memory(tree(tmp_path / "a", unlimited)) == Memory(16 * GIB, 8 * GIB, is_limited=False)
    limited = files | {f"{group}limit_in_bytes": f"{2 * GIB}\n"}
    assert memory(tree(tmp_path / "b", limited)) == Memory(2 * GIB, GIB, is_limited=True)


def test_free_disk(tmp_path: Path) -> None:
    about = os.statvfs(tmp_path)
    assert free_disk(tmp_path) == pytest.approx(about.f_bavail * about.f_frsize, rel=0.05)  # others write meanwhile
    assert free_disk(tmp_path / "absent") == 0
