"""Who is alive: a process of this machine, one of another that beats or has stopped to."""

import json
import subprocess
import sys
import time
from pathlib import Path

from birdnet_fs.training.heartbeat import Beat, Watch


def until(watch: Watch, path: Path, state: str) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if watch(path) == state:
            return True
        time.sleep(0.01)
    return False


def test_a_beat_is_seen_and_leaves_nothing(tmp_path: Path) -> None:
    watch, path = Watch(grace_s=15), tmp_path / "folder" / "alive.json"
    with Beat(path, every_s=0.05):
        assert watch(path) == "unknown"
        assert until(watch, path, "alive")
        assert watch(path) == "alive"
    assert list(path.parent.iterdir()) == []


def test_a_process_of_this_machine_that_is_gone_is_dead_at_once(tmp_path: Path) -> None:
    path = tmp_path / "alive.json"
    code = (
        "import sys; from pathlib import Path; from birdnet_fs.training.heartbeat import Beat\n"
        "Beat(Path(sys.argv[1]), every_s=0.05).__enter__(); print('on', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    watch = Watch(grace_s=1e6)
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    assert until(watch, path, "alive")
    process.kill()
    process.wait()
    assert watch(path) == "dead"


def test_another_machine_is_dead_when_it_is_silent_for_long(tmp_path: Path) -> None:
    path = tmp_path / "alive.json"
    path.write_text(json.dumps({"machine": "another", "pid": 1}))
    watch = Watch(grace_s=0.2)
    assert watch(path) == "unknown"
    assert until(watch, path, "dead")
    assert Watch(grace_s=60)(path) == "unknown"


def test_a_file_that_never_came_is_dead_after_the_grace(tmp_path: Path) -> None:
    watch = Watch(grace_s=0.2)
    assert watch(tmp_path / "absent.json") == "unknown"
    assert until(watch, tmp_path / "absent.json", "dead")
