"""Liveness of processes of this machine, and of another that touches its file or does not."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from birdnet_fs.tuning.liveness import claim, exclusive, kept_touched, last_touched


def until(condition) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_kept_touched_touches_until_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "alive.json"
    claim(path)
    with kept_touched(path, grace_s=0.12):
        first = last_touched(path)
        assert until(lambda: last_touched(path) > first)
    last = last_touched(path)
    time.sleep(0.1)
    assert last_touched(path) == last
    with kept_touched(tmp_path / "absent", grace_s=0.12):
        time.sleep(0.05)
    assert not (tmp_path / "absent").exists()


def test_last_touched_is_0_when_the_owner_on_this_machine_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "alive.json"
    code = (
        "import sys; from pathlib import Path; from birdnet_fs.tuning.liveness import claim\n"
        "claim(Path(sys.argv[1])); print('on', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    assert last_touched(path) == path.stat().st_mtime
    process.kill()
    process.wait()
    assert last_touched(path) == 0.0


def test_last_touched_of_another_machine_is_the_time_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "alive.json"
    assert last_touched(path) == 0.0
    path.write_text(json.dumps({"machine": "another", "pid": 2**22 + 1}))  # beyond the largest process number
    assert last_touched(path) == path.stat().st_mtime


def test_exclusive_admits_one_at_a_time_and_gives_the_time_of_the_file_system(tmp_path: Path) -> None:
    inside, seen, times = [], [], []

    def enter() -> None:
        with exclusive(tmp_path / "draw") as now_s:
            inside.append(1)
            seen.append(len(inside))
            claim(tmp_path / "file")
            times.append((now_s, (tmp_path / "file").stat().st_mtime))
            inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 8
    assert all(now_s <= file_s for now_s, file_s in times)
    assert not list(tmp_path.glob("*.lock"))
