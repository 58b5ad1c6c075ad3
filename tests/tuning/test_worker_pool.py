"""Worker processes: all run, are replaced when they are killed, end with the command."""

import subprocess
import sys
import time
from pathlib import Path

import pool_workers
import pytest
from pool_workers import die, do_nothing, pool, second_fails, wait_for_stop

from birdnet_fs.tuning import worker_pool
from birdnet_fs.tuning.worker_pool import FAULT, MAX_RESTARTS, STOPPED, threads_per_worker


def n_marks(folder: Path) -> int:
    return len(list(folder.iterdir()))


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_all_run_and_end(tmp_path: Path) -> None:
    with pool(do_nothing, tmp_path, 3) as workers:
        assert len(list(workers.run())) >= 2
    assert (workers.exit_code, n_marks(tmp_path)) == (0, 3)


def test_killed_workers_are_replaced_until_max_restarts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pool(die, tmp_path, 1) as workers:
        for _ in workers.run():
            pass
    assert (workers.exit_code, n_marks(tmp_path)) == (1, 1 + MAX_RESTARTS)
    assert capfd.readouterr().err.count("signal 9; often for lack of memory); another takes its") == MAX_RESTARTS


def test_user_error_of_one_worker_stops_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    with pool(second_fails, tmp_path, 2) as workers:
        for _ in workers.run():
            pass
    assert workers.exit_code == FAULT
    assert time.monotonic() - start < 50
    assert capfd.readouterr().err == "birdnet-fs: The disk is too small.\n"


def test_workers_are_interrupted_when_the_block_ends(tmp_path: Path) -> None:
    with pool(wait_for_stop, tmp_path, 2) as workers:
        wait_until(lambda: n_marks(tmp_path) == 2)
        processes = list(workers._workers.values())
        next(workers.run())
        assert all(process.is_alive() for process in processes)
    assert [process.exitcode for process in processes] == [STOPPED] * 2
    assert len(list(tmp_path.glob("stopped*"))) == 2


def test_workers_are_interrupted_when_the_parent_is_killed(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(pool_workers.__file__).parent)!r})\n"
        "from pathlib import Path; from pool_workers import pool, wait_for_stop\n"
        "if __name__ == '__main__':\n"
        "    with pool(wait_for_stop, Path(sys.argv[1]), 2) as workers:\n"
        "        list(workers.run())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
    wait_until(lambda: n_marks(tmp_path) == 2)
    parent.kill()
    parent.wait()
    wait_until(lambda: len(list(tmp_path.glob("stopped*"))) == 2)


def test_cores_and_gpus_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads_per_worker(1) >= 1
    assert threads_per_worker(10_000) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [worker_pool._gpu(index).get("CUDA_VISIBLE_DEVICES") for index in range(3)] == ["2", "5", "2"]
    for only in ("0", ""):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", only)
        assert worker_pool._gpu(1) == {}
