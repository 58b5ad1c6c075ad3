"""Trained weights on a full disk: tried again, then in another place, never lost."""

import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from killed import contents, leftovers, small_disk

from birdnet_fs.core import stopping
from birdnet_fs.core.errors import UserError
from birdnet_fs.runs.run import Run, load_run, read_weights, save_run
from birdnet_fs.schema import Experiment, FrontEnd, Model
from birdnet_fs.training import rescue
from birdnet_fs.training.rescue import save_safely

EXPERIMENT = Experiment(frontend=FrontEnd(segment_s=0.6, n_mels=32), model=Model("cnn/tiny"))


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of the test; there is no other place, and no pause."""
    home = tmp_path / "home"
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(rescue.tempfile, "gettempdir", lambda: "/dev/null/temporary")
    monkeypatch.setattr(rescue, "SHARED_MEMORY", Path("/dev/null/shm"))
    monkeypatch.setattr(rescue, "PAUSES_S", ())
    return home


def save(folder: Path, n: int = 3, value: float = 1.0) -> Run:
    return save_run(folder, EXPERIMENT, ("a", "b"), {"w": np.full(n, value, np.float32)})


def refusing(place: Path, times: int = 99):
    """A way to save that fails below a place, as often as given."""
    left = [times]

    def try_to_save(folder: Path) -> Run:
        if folder.is_relative_to(place) and left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        return save(folder)

    return try_to_save


def test_another_attempt_follows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save_safely(tmp_path / "run", refusing(tmp_path / "run", 2), (0.01, 0.01, 0.01))
    assert run.path == tmp_path / "run" and load_run(run.path).classes == ("a", "b")
    said = capsys.readouterr().err
    assert said.count("No space left on device") == 2 == said.count("free disk space") and str(run.path) in said


def test_the_second_place_is_named(tmp_path: Path, places: Path) -> None:
    save(tmp_path / "run", value=7)
    with pytest.raises(UserError, match=r"could not be written to .*run \(No space .*earlier run there is unchanged"):
        save_safely(tmp_path / "run", refusing(tmp_path / "run"))
    assert read_weights(tmp_path / "run" / "weights.safetensors")["w"][0] == 7
    (found,) = (places / "birdnet_fs_rescued").iterdir()
    assert found.name.startswith("run-") and read_weights(found / "weights.safetensors")["w"].tolist() == [1, 1, 1]


def test_other_places_follow_and_none_is_said(tmp_path: Path, places: Path, monkeypatch) -> None:
    monkeypatch.setattr(rescue, "SHARED_MEMORY", tmp_path / "shm")
    (tmp_path / "shm").mkdir()
    both = refusing(tmp_path / "run"), refusing(places)

    def try_to_save(folder: Path) -> Run:
        return both[folder.is_relative_to(places)](folder)

    with pytest.raises(UserError, match=rf"run folder in {tmp_path / 'shm'}"):
        save_safely(tmp_path / "run", try_to_save)
    with pytest.raises(UserError, match=r"nor to .*home.*temporary.*shm.*; free disk space and train again"):
        save_safely(tmp_path / "run", refusing(tmp_path))
    with pytest.raises(UserError, match=r"could not be written to .*run \(No space left on device: .*\)\.$"):
        save_safely(tmp_path / "run", refusing(tmp_path), elsewhere=False)


def test_a_signal_ends_the_pause_and_waits_for_the_second_place(tmp_path: Path, places: Path) -> None:
    stopping.listen()
    alarm = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(UserError, match="They are a run folder in"):
            save_safely(tmp_path / "run", refusing(tmp_path / "run"), (3600.0,))
        assert len(list((places / "birdnet_fs_rescued").iterdir())) == 1
    finally:
        signal.signal(signal.SIGALRM, alarm)


def test_nothing_is_lost_at_any_size_of_the_disk(tmp_path: Path, places: Path) -> None:
    with small_disk(tmp_path / "disk") as resize:
        folder = tmp_path / "disk" / "run"
        save(folder, value=7)
        old, sizes = contents(folder), list(range(28, 228, 10))
        for i, kib in enumerate(sizes):
            resize(kib)
            with pytest.raises(UserError, match="They are a run folder in"):
                save_safely(folder, lambda place, i=i: save(place, 60_000, float(i)))
            assert contents(folder) == old and leftovers(tmp_path) == []
        kept = {
            float(read_weights(found / "weights.safetensors")["w"][0])
            for found in (places / "birdnet_fs_rescued").iterdir()
        }
        assert kept == set(map(float, range(len(sizes)))) and len(sizes) == 20
        resize(2000)
        assert save_safely(folder, lambda place: save(place, 60_000)).path == folder
