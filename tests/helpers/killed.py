"""Write something in a child process that is killed (SIGKILL) before the n-th change of the file system, for every n.

Changes are counted by an audit hook and by hooks on the calls that raise no audit event, so that every kill point is
visited, and the same ones each time. A child that is killed before it waits for the disk leaves half of the file, as a
process that is killed while it writes does. Children are forked: a test file that uses this imports what is written
before.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from birdnet_fs.core import folders

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
_inside = [""]  # folder in which changes are counted; "" = none, since a hook cannot be removed
_reached: list[Callable[..., None]] = []


def sampled(every: int) -> pytest.MarkDecorator:
    """The argument `every` of a test: a sample of the kill points, and, among the slow tests, all of them."""
    return pytest.mark.parametrize("every", [every, pytest.param(1, marks=pytest.mark.slow)])


def _hook(event: str, arguments: tuple) -> None:
    if not _inside[0]:
        return
    if event == "open":
        path, _, flags = arguments
        if not isinstance(path, str | bytes | os.PathLike) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
    elif event not in CHANGES:
        return
    else:
        path = arguments[0]
    relative = event in ("os.remove", "os.rmdir") and arguments[1] != -1  # to an open folder, as `shutil.rmtree` does
    if relative or (isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(_inside[0])):
        _reached[0]()


def _count_calls_without_event(calls: list[tuple[object, str]]) -> None:
    """Count before and after every exchange of two names, and every wait for the disk."""
    for module, name in calls:
        true = getattr(module, name)

        def counted(*arguments: object, true: Callable = true, name: str = name) -> object:
            if _inside[0]:
                _reached[0](*(arguments if name == "fsync" else ()))
            found = true(*arguments)
            if _inside[0]:
                _reached[0]()
            return found

        setattr(module, name, counted)


def killed_at_every_change(
    folder: Path,
    prepare: Callable[[], object],
    write: Callable[[], object],
    patches: Callable[[], None] = lambda: None,
    every: int = 1,
) -> Iterator[int]:
    """Run `prepare` here and `write` in a child that is killed before its n-th change in `folder`.

    Args:
        folder: Changes below it are counted.
        prepare: Makes the state before each attempt.
        write: Work that is interrupted.
        patches: Called in the child before `write`. Default: nothing.
        every: Visit every so many changes only. Default: 1, all.

    Yields:
        The number of the change, 1, 2, ..., after the child was killed there; ends when `write` is no longer killed.
    """
    n = 1 - every
    while True:
        n += every
        prepare()
        if _ended(folder, n, write, patches):
            return
        yield n


def killed_again_and_again(
    folder: Path,
    write: Callable[[], object],
    rng: random.Random,
    n_kills: int,
    most: int,
    patches: Callable[[], None] = lambda: None,
) -> tuple[int, int]:
    """Run `write` in children until one ends; the first `n_kills` are killed before a random change in `folder`.

    Args:
        folder: Changes below it are counted.
        write: Work that is interrupted; the next child goes on from what the one before has left.
        rng: Draws the change, 1 to `most`.
        n_kills: Most children that are killed.
        most: Largest number of the change; few enough that `n_kills` children do not end before.
        patches: Called in each child before `write`. Default: nothing.

    Returns:
        Number of children that were killed, and of those that were killed while something was half-written.
    """
    n_half_written = 0
    for n in range(n_kills):
        if _ended(folder, rng.randint(1, most), write, patches):
            return n, n_half_written
        n_half_written += bool(leftovers(folder))
    assert _ended(folder, 0, write, patches)
    return n_kills, n_half_written


def _ended(folder: Path, n: int, write: Callable[[], object], patches: Callable[[], None]) -> bool:
    """Whether a child ends before its n-th change, where it is killed; a child that fails is an error."""
    child = os.fork()
    if not child:
        _in_child(folder, n, write, patches)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, f"the child failed on its own before change {n}"
        return True
    assert os.WTERMSIG(status) == signal.SIGKILL
    return False


def _in_child(folder: Path, n: int, write: Callable[[], object], patches: Callable[[], None]) -> None:
    status, seen = 1, [0]

    def reached(*handle: int) -> None:
        seen[0] += 1
        if seen[0] == n:
            for written in handle:
                with contextlib.suppress(OSError):  # a folder
                    os.ftruncate(written, os.fstat(written).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        os.fsync = lambda handle: None  # a killed process loses nothing that it has written; only power failures do
        patches()
        _count_calls_without_event([(folders, "_exchange"), (os, "fsync")])
        _reached[:] = [reached]
        sys.addaudithook(_hook)
        _inside[0] = os.fspath(folder)
        write()
        status = 0
    except BaseException:
        import traceback

        _inside[0] = ""
        traceback.print_exc()
    finally:
        os._exit(status)


def contents(folder: Path) -> dict[str, bytes | str]:
    """Every file below a folder, left-overs of killed processes aside, as content by name."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not any(part.startswith((".part-", ".gone-", ".next-")) for part in name.split("/")) and path.is_file():
            found[name] = path.read_bytes()
    return found


def leftovers(folder: Path) -> list[str]:
    """Names of the temporary files and folders below a folder."""
    return [path.name for path in folder.rglob("*") if path.name.startswith((".part-", ".gone-", ".next-"))]


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[int], None]]:
    """A file system in memory at `folder`, and a function that sets its size in KiB; needs root."""
    folder.mkdir()
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.decode().strip()}")
    try:
        yield lambda kib: subprocess.run(["mount", "-o", f"remount,size={kib}k", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
