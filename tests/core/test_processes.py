"""Processes that have ended, and children that end with a parent that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from birdnet_fs.core.processes import has_ended, machine, start_time

ROOT = str(Path(__file__).parents[2])


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_has_ended() -> None:
    assert not has_ended(os.getpid(), start_time(os.getpid())) and not has_ended(os.getpid(), 0)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = start_time(child.pid)
    assert not has_ended(child.pid, started)
    child.communicate(b"\n")
    assert has_ended(child.pid, started) and has_ended(child.pid, 0)
    if started:
        assert has_ended(os.getpid(), start_time(os.getpid()) - 1)  # the number was used again
    assert len(machine()) == 8


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.parametrize("how", ["subprocess", "loader"])
def test_children_end_with_a_parent_that_is_killed(how: str, tmp_path: Path) -> None:
    subprocess_code = (
        "from birdnet_fs.export.runtimes.subprocesses import run_python; from pathlib import Path\n"
        "run_python(Path(sys.executable), ['-c', child])"
    )
    loader_code = (  # the sleeping process does not ask its queue whether the parent lives
        "from torch.utils.data import DataLoader; from birdnet_fs.core.processes import end_with_parent\n"
        "class Items:\n"
        "    def __len__(self): return 4\n"
        "    def __getitem__(self, i): exec(child)\n"
        "list(DataLoader(Items(), num_workers=1, worker_init_fn=end_with_parent))"
    )
    child = "import os, time; print(os.getpid(), file=open(FILE, 'w'), flush=True); time.sleep(600)"
    file = tmp_path / "number"
    code = f"import sys; child = {child.replace('FILE', repr(str(file)))!r}\n"
    code += loader_code if how == "loader" else subprocess_code
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": ROOT})
    try:
        deadline = time.monotonic() + 120
        while not (file.exists() and file.read_text().strip()):
            assert time.monotonic() < deadline and parent.poll() is None
            time.sleep(0.05)
        pid = int(file.read_text())
        assert lives(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + 20
        while lives(pid):
            assert time.monotonic() < deadline, "the child outlives its parent"
            time.sleep(0.05)
    finally:
        parent.kill()
