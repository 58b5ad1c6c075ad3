"""Worker processes: started in turn, replaced when they die, ended with the command."""

import sys
from pathlib import Path

import pytest

from birdnet_fs.training import crew
from birdnet_fs.training.crew import FAULT, MOST_REPLACED, STOPPED, Crew, threads_each

MARK = "import os, sys, time; open(os.path.join(sys.argv[1], str(os.getpid())), 'w').close();"
READY = "print('ready', flush=True);"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "LOOK_S", 0.02)


def of(folder: Path, code: str, n: int) -> Crew:
    return Crew([sys.executable, "-c", MARK + code, str(folder)], n, threads=1)


def started(folder: Path) -> int:
    return len(list(folder.iterdir()))


def test_all_work_and_end(tmp_path: Path) -> None:
    with of(tmp_path, READY, 3) as workers:
        assert workers.start()
        assert len(list(workers.looks())) >= 2
    assert (workers.status, started(tmp_path)) == (0, 3)


def test_a_first_one_with_a_fault_is_the_only_one(tmp_path: Path) -> None:
    with of(tmp_path, f"sys.exit({FAULT})", 3) as workers:
        assert not workers.start()
    assert (workers.status, started(tmp_path)) == (FAULT, 1)


def test_those_that_die_are_replaced_some_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with of(tmp_path, READY + "os.kill(os.getpid(), 9)", 2) as workers:
        assert workers.start()
        for _ in workers.looks():
            pass
    n_replaced = 2 * MOST_REPLACED
    assert workers.status == 1
    assert 2 + n_replaced <= started(tmp_path) <= 2 + n_replaced + 1
    assert capsys.readouterr().err.count("signal 9; often the memory was full); another takes its place") == n_replaced


def test_a_fault_of_one_ends_all(tmp_path: Path) -> None:
    code = READY + f"time.sleep(0.2); sys.exit({FAULT}) if len(os.listdir(sys.argv[1])) == 2 else os.read(0, 1)"
    with of(tmp_path, code, 2) as workers:
        assert workers.start()
        for _ in workers.looks():
            pass
    assert workers.status == FAULT


def test_they_end_when_the_command_stops(tmp_path: Path) -> None:
    with of(tmp_path, READY + f"os.read(0, 1); sys.exit({STOPPED})", 2) as workers:
        assert workers.start()
        processes = list(workers._at_work.values())
        next(workers.looks())
        assert all(process.poll() is None for process in processes)
    assert [process.returncode for process in processes] == [STOPPED] * 2


def test_cores_and_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads_each(1) >= 1
    assert threads_each(10_000) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [crew._gpu(place).get("CUDA_VISIBLE_DEVICES") for place in range(3)] == ["2", "5", "2"]
    for only in ("0", ""):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", only)
        assert crew._gpu(1) == {}
