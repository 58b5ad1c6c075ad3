"""Left-overs: those of ended processes are removed, nothing of living ones or of other machines is."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from birdnet_fs.core import leftovers
from birdnet_fs.core.leftovers import (
    GONE,
    NEXT,
    PART,
    REPLACED,
    complete_replacement,
    is_temporary,
    remove_leftovers,
    temporary_name,
)
from birdnet_fs.core.processes import machine


@pytest.fixture(scope="module")
def ended() -> str:
    """Machine, number and start of a process that has ended."""
    code = "from birdnet_fs.core.leftovers import temporary_name; print(temporary_name(''))"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout[:-1]


def aged(path: Path, days: float) -> Path:
    path.touch()
    os.utime(path, (time.time() - days * 86_400,) * 2)
    return path


def test_only_files_of_ended_processes_are_removed(tmp_path: Path, ended: str) -> None:
    _, number, start, rest = ended.split("-")
    own = temporary_name(PART)
    kept = {
        own,
        f"{PART}{machine()}-{os.getppid()}-0-{rest}",  # the start is unknown
        f"{PART}00000000-{number}-{start}-{rest}",  # another machine
        ".part-of-a-book.txt",  # no owner, new
        ".partition",
    }
    removed = {
        f"{PART}{ended}.csv",
        f"{PART}{machine()}-{os.getpid()}-{int(own.split('-')[3]) - 1}-{rest}",  # its number is in use again
        f"{GONE}{ended}",
    }
    for name in kept | removed:
        (tmp_path / name).touch()
    old = {
        f"{PART}00000000-{number}-{start}-{'1' * 8}": 8,
        ".part-abcdefgh.csv": 8,  # as they were named before
        f"{PART}00000000-{number}-{start}-{'2' * 8}": 6,
    }
    for name, days in old.items():
        aged(tmp_path / name, days)
    deeper = tmp_path / "trials" / f"{PART}{ended}"
    deeper.mkdir(parents=True)
    remove_leftovers(tmp_path)
    assert set(os.listdir(tmp_path)) == kept | {"trials"} | {name for name, days in old.items() if days == 6}
    assert deeper.exists()
    remove_leftovers(tmp_path, recursive=True)
    assert not deeper.exists()
    remove_leftovers(tmp_path / "missing")


def test_a_file_in_use_keeps_a_folder_of_another_machine(tmp_path: Path) -> None:
    folder = tmp_path / f"{PART}00000000-1-1-{'0' * 8}"
    folder.mkdir()
    (folder / "growing").touch()
    aged(folder, 30)
    remove_leftovers(tmp_path)
    assert (folder / "growing").exists()


def test_zombies_have_ended(tmp_path: Path) -> None:
    """A killed process stays in the table of processes until its parent asks for its status, as in containers."""
    child = os.fork()
    if not child:
        (tmp_path / temporary_name(PART)).touch()
        os.kill(os.getpid(), 9)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert len(os.listdir(tmp_path)) == 1
    remove_leftovers(tmp_path)
    os.waitpid(child, 0)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_was_renamed_aside_is_put_back_unless_there_is_a_new_one(tmp_path: Path, ended: str) -> None:
    for folder, there in ((tmp_path / "run", False), (tmp_path / "other", True)):
        gone = tmp_path / f"{GONE}{ended[:-1]}{int(there)}"
        (gone / folder.name).mkdir(parents=True)
        (gone / folder.name / "old").touch()
        if there:
            folder.mkdir()
        complete_replacement(folder)
        assert os.listdir(folder) == ([] if there else ["old"])
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["other", "run"]


def test_moving_is_completed_by_a_reader_on_the_same_machine_only(tmp_path: Path, ended: str) -> None:
    (tmp_path / "victim").touch()
    folder = tmp_path / "run"
    foreign = f"{NEXT}00000000-{ended.split('-', 1)[1]}"
    for name in (NEXT + ended, foreign):
        (folder / name).mkdir(parents=True)
        (folder / name / REPLACED).write_text(json.dumps(["old", "../victim", "..", "", 3]))
        (folder / name / f"new{len(name)}").touch()
        (folder / "old").touch()
    complete_replacement(folder)
    assert (tmp_path / "victim").exists()
    assert sorted(os.listdir(folder)) == [foreign, f"new{len(NEXT + ended)}"]


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    name = temporary_name(PART, ".tflite")
    assert name.endswith(".tflite") and is_temporary(name) and len(name) < 80
    assert temporary_name(PART, "." + "x" * 200)[-1] != "x"
    assert temporary_name(PART) != temporary_name(PART)
    monkeypatch.setattr(leftovers, "start_time", lambda pid: 0)  # no /proc
    assert "-0-" in temporary_name(GONE)
