"""Atomic folders: after a kill at any change of the file system there is the old folder or the new one, whole."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from killed import contents, killed_at_every_change, leftovers, small_disk

from birdnet_fs.core import folders
from birdnet_fs.core.files import check_output
from birdnet_fs.core.folders import atomic_folder, link_tree
from birdnet_fs.core.leftovers import complete_replacement

OLD = {"config.json": b"old", "weights": b"old" * 1000, "checkpoints/last/weights": b"old"}
OTHERS = {"export/small.tflite": b"shipped", "notes.txt": b"mine"}
NEW = {"config.json": b"new", "weights": b"new" * 2000, "scores.csv": b"new"}


def stays(name: str) -> bool:
    return name in ("export", "notes.txt")


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def replace(folder: Path) -> None:
    with atomic_folder(folder, stays=stays) as part:
        write(part, NEW)


def cannot_exchange() -> None:
    folders._exchange = lambda one, two: False


def cannot_be_renamed() -> None:
    folders._cannot_be_renamed = lambda folder: True


@pytest.mark.parametrize(
    ("patches", "least"),
    [(lambda: None, 15), (cannot_exchange, 18), (cannot_be_renamed, 15)],
    ids=["exchange", "two renames", "inside"],
)
def test_a_kill_leaves_the_old_or_the_new_folder(tmp_path: Path, patches, least: int) -> None:
    folder = tmp_path / "run"

    def prepare() -> None:
        shutil.rmtree(tmp_path)
        write(folder, OLD | OTHERS)

    found = []
    for n in killed_at_every_change(tmp_path, prepare, lambda: replace(folder), patches):
        complete_replacement(folder)  # as every reader does
        assert contents(folder) in (OLD | OTHERS, NEW | OTHERS), n
        found.append(contents(folder) == NEW | OTHERS)
        replace(folder)
        assert contents(folder) == NEW | OTHERS and leftovers(tmp_path) == [], n
    assert len(found) >= least and found == sorted(found) and {True, False} == set(found)


def test_the_naive_way_is_caught(tmp_path: Path) -> None:
    """Files that are moved one by one, as it was done before: the campaign sees mixtures."""
    folder = tmp_path / "run"

    def prepare() -> None:
        shutil.rmtree(tmp_path)
        write(folder, OLD | OTHERS)

    def one_by_one() -> None:
        write(tmp_path / "part", NEW)
        for name in NEW:
            os.replace(tmp_path / "part" / name, folder / name)

    states = [contents(folder) for _ in killed_at_every_change(tmp_path, prepare, one_by_one)]
    assert any(state not in (OLD | OTHERS, NEW | OTHERS) for state in states)


@pytest.mark.parametrize("there", [False, True])
def test_atomic_folder_keeps_the_previous_folder_on_errors(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "out"
    if there:
        folder.mkdir()
        (folder / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder) as part:
        (part / "new").write_text("half")
        raise KeyboardInterrupt
    assert sorted(os.listdir(tmp_path)) == (["out"] if there else [])
    with atomic_folder(folder) as part:
        (part / "new").write_text("whole")
    assert os.listdir(folder) == ["new"]
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_between_two_renames_puts_the_old_folder_back(tmp_path: Path, monkeypatch, error) -> None:
    folder, rename = tmp_path / "run", os.rename
    write(folder, OLD | OTHERS)
    monkeypatch.setattr(folders, "_exchange", lambda one, two: False)

    def second_fails(source: Path, target: Path) -> None:
        if Path(target) == folder and ".gone-" not in str(source):
            raise error("interrupted here")
        rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(os, "rename", second_fails)
        replace(folder)
    assert contents(folder) == OLD | OTHERS and os.listdir(tmp_path) == ["run"]


def test_a_link_to_a_folder_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "big_disk" / "run"
    write(target, OLD | OTHERS)
    os.chmod(target, 0o2775)
    (tmp_path / "run").symlink_to(target)
    replace(tmp_path / "run")
    assert (tmp_path / "run").is_symlink() and contents(target) == NEW | OTHERS
    assert target.stat().st_mode & 0o7777 == 0o2775
    assert os.listdir(tmp_path / "big_disk") == ["run"]


def test_the_current_folder_is_not_exchanged(tmp_path: Path, monkeypatch) -> None:
    """Else the shell of the user would be left in a folder that was removed."""
    write(tmp_path / "run", OLD | OTHERS)
    for here in (tmp_path / "run", tmp_path / "run" / "export"):
        monkeypatch.chdir(here)
        number = (tmp_path / "run").stat().st_ino
        replace(tmp_path / "run")
        assert (tmp_path / "run").stat().st_ino == number and contents(tmp_path / "run") == NEW | OTHERS


@pytest.mark.parametrize("bind", [False, True])
def test_a_mount_point_is_replaced_inside(tmp_path: Path, bind: bool) -> None:
    """A folder that a container is given; one of the same file system looks like any other to `ismount`."""
    folder = tmp_path / "run"
    with small_disk(folder):
        if bind:
            folder = tmp_path / "bound"
            folder.mkdir()
            (tmp_path / "elsewhere").mkdir()
            subprocess.run(["mount", "--bind", str(tmp_path / "elsewhere"), str(folder)], check=True)
        try:
            write(folder, OLD | OTHERS)
            replace(folder)
            assert contents(folder) == NEW | OTHERS and leftovers(folder) == []
        finally:
            if bind:
                subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("links", [True, False])
def test_entries_that_stay_are_linked_and_what_is_written_meanwhile_is_moved(
    tmp_path: Path, monkeypatch, links: bool
) -> None:
    folder, exchange = tmp_path / "run", folders._exchange
    write(folder, OLD | OTHERS)
    (folder / "export" / "latest").symlink_to("small.tflite")
    number = (folder / "notes.txt").stat().st_ino

    def written_meanwhile(one: Path, two: Path) -> bool:
        write(folder, {"export/other.tflite": b"of another process"})
        return exchange(one, two)

    monkeypatch.setattr(folders, "_exchange", written_meanwhile)
    if not links:

        def refused(*_: object) -> None:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refused)
    replace(folder)
    assert ((folder / "notes.txt").stat().st_ino == number) == links
    assert os.readlink(folder / "export" / "latest") == "small.tflite"
    assert (folder / "export" / "other.tflite").read_bytes() == b"of another process"
    assert not (folder / "checkpoints").exists()


def test_full_disk_at_every_size_keeps_the_old_folder(tmp_path: Path) -> None:
    big = {"weights": b"w" * 60_000, "a": b"a" * 5_000, "b": b"b" * 9_000}
    with small_disk(tmp_path / "disk") as resize:
        folder, sizes = tmp_path / "disk" / "run", []
        write(folder, OLD | OTHERS)
        for kib in range(36, 200, 4):
            resize(kib)
            try:
                with atomic_folder(folder, stays=stays) as part:
                    write(part, big)
            except OSError as error:
                assert error.filename == str(folder) and "No space left" in str(error)
                assert contents(folder) == OLD | OTHERS
                assert os.listdir(tmp_path / "disk") == ["run"]
                sizes.append(kib)
            else:
                break
        assert contents(folder) == big | OTHERS
    assert len(sizes) >= 15


def test_link_tree_makes_second_names(tmp_path: Path) -> None:
    write(tmp_path / "a", OTHERS)
    link_tree(tmp_path / "a", tmp_path / "b")
    assert contents(tmp_path / "b") == OTHERS
    assert (tmp_path / "a" / "notes.txt").samefile(tmp_path / "b" / "notes.txt")


def test_the_next_command_removes_leftovers_of_a_killed_process_only(tmp_path: Path) -> None:
    code = (
        "import sys, time; from birdnet_fs.core.folders import atomic_folder; from birdnet_fs.core.files import *\n"
        "with atomic_folder(sys.argv[1]) as part, atomic_path(sys.argv[1] + '.csv') as file:\n"
        "    (part / 'half').write_text('half'); print('ready', flush=True); time.sleep(600)"
    )
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}) as process:
        assert process.stdout is not None and process.stdout.readline()
        check_output(tmp_path / "run")
        replace(tmp_path / "other")
        assert len(leftovers(tmp_path)) == 2  # the folder and the file of the living process
        process.kill()
    check_output(tmp_path / "run")
    assert sorted(os.listdir(tmp_path)) == ["other"]
