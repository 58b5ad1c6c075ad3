"""One process at a time writes a folder: against processes that hold, are killed, fork and end."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from birdnet_fs.core import lock
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import folder_lock, is_in_use, locked, mark_in_use

ROOT = Path(__file__).parents[2]


def holder(folder: Path, body: str = "print('held', flush=True); sys.stdin.read()") -> subprocess.Popen[str]:
    """A process that holds the lock of a folder until its input ends."""
    program = textwrap.dedent(f"""
        import os, sys, time
        from birdnet_fs.core.lock import folder_lock
        with folder_lock({str(folder)!r}):
            {body}
    """)
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("")


def test_second_process_is_refused_with_the_first_named_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = holder(folder)
    with pytest.raises(UserError) as caught, folder_lock(folder):
        pass
    text = str(caught.value)
    assert text.startswith(f"{folder} is being written by another process (")
    assert f"process {first.pid} on " in text and " UTC)" in text and "\n" not in text
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UserError, match="is being written"), folder_lock(tmp_path / "link"):
        pass  # the same folder under another name
    with folder_lock(tmp_path / "other"):
        pass
    end(first)
    with folder_lock(folder):
        assert [path.name for path in tmp_path.iterdir() if path.name != "link"] == [".run.lock"]
    assert os.listdir(tmp_path) == ["link"]


def test_killed_process_holds_nothing(tmp_path: Path) -> None:
    first = holder(tmp_path / "run")
    first.kill()
    first.wait()
    assert (tmp_path / ".run.lock").exists()  # left behind, and no lock
    with folder_lock(tmp_path / "run"):
        pass
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
@pytest.mark.timeout(120)  # the child, which may drop the lock a moment after its parent has died, lives longer
def test_forked_child_does_not_keep_the_lock_of_its_killed_parent(tmp_path: Path) -> None:
    body = "child = os.fork(); child or time.sleep(900); print('held', child, sep='\\n', flush=True); time.sleep(60)"
    first = holder(tmp_path / "run", body)
    assert first.stdout is not None
    child = int(first.stdout.readline())
    first.kill()
    first.wait()
    try:
        with folder_lock(tmp_path / "run", wait=True):
            os.kill(child, 0)  # it lives
    finally:
        os.kill(child, signal.SIGKILL)


def test_same_process_enters_again_and_the_last_block_releases(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "run"):
        with folder_lock(tmp_path / "." / "run"):
            pass
        check = [sys.executable, "-c", f"import fcntl; fcntl.flock(open({str(tmp_path / '.run.lock')!r}, 'r+'), 6)"]
        assert subprocess.run(check, capture_output=True).returncode == 1  # still held
    assert not os.listdir(tmp_path)


def test_missing_parents_are_made_and_removed_when_nothing_was_written(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "a" / "b" / "run"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a").exists()
    with folder_lock(tmp_path / "a" / "b" / "run"):
        (tmp_path / "a" / "b" / "run").mkdir()
    assert os.listdir(tmp_path / "a" / "b") == ["run"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"), folder_lock(tmp_path / "file" / "run"):
        pass


def test_lock_is_inside_where_only_the_folder_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    true = os.open

    def refused(path: Path, *arguments: int) -> int:
        if Path(path).parent == tmp_path:
            raise PermissionError(errno.EACCES, "no", str(path))
        return true(path, *arguments)

    monkeypatch.setattr(lock.os, "open", refused)
    with folder_lock(folder):
        assert os.listdir(folder) == [".lock"]
    assert os.listdir(folder) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_said(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock, "_lock", missing)
    with folder_lock(tmp_path / "run"), folder_lock(tmp_path / "run"):
        pass
    assert capsys.readouterr().err.count("has no locks") == 1
    assert not os.listdir(tmp_path)


def test_waiting_process_goes_on_after_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = holder(tmp_path / "run", "print('held', flush=True); sys.stdin.readline(); time.sleep(0.3)")
    assert first.stdin is not None
    first.stdin.write("\n")
    first.stdin.flush()
    with folder_lock(tmp_path / "run", wait=True):
        assert first.wait(20) == 0
    assert "waiting for it" in capsys.readouterr().err


def test_decorated_function_holds_the_lock_of_its_first_given_folder(tmp_path: Path) -> None:
    @locked("output", "run")
    def write(run: Path | None = None, output: Path | None = None) -> list[str]:
        return sorted(os.listdir(tmp_path))

    assert write() == []
    assert write(tmp_path / "a") == [".a.lock"]
    assert write(tmp_path / "a", tmp_path / "b") == [".b.lock"]
    first = holder(tmp_path / "b")
    with pytest.raises(UserError, match="another process"):
        write(output=tmp_path / "b")
    end(first)


def test_file_is_in_use_until_all_processes_have_closed_it(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("x")
    assert not is_in_use(file) and not is_in_use(tmp_path / "missing")
    with open(file) as one:
        mark_in_use(one.fileno())
        assert is_in_use(file)
        child = os.fork()  # inherits the open file, as a worker process of a loader does
        if not child:
            time.sleep(60)
            os._exit(0)
    assert is_in_use(file)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not is_in_use(file)
