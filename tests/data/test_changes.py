"""What has changed between two states of labeled recordings, on moved, copied, replaced and relabeled files."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdnet_fs.data.changes import clip_changes, file_changes, file_states
from birdnet_fs.data.copies import fingerprint
from birdnet_fs.data.manifest import Clip


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("a.wav", "b.wav", "sub/c.wav")]
    (tmp_path / "sub").mkdir()
    for seed, path in enumerate(paths):
        soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 4_000), 8_000)
    return paths


def copied(root: Path) -> None:
    for path in root.rglob("*.wav"):
        os.utime(path, (1, 1))


def grown(root: Path) -> None:
    with open(root / "a.wav", "ab") as file:
        file.write(bytes(2_000))


def replaced(root: Path) -> None:
    soundfile.write(root / "a.wav", np.random.default_rng(9).normal(0, 0.1, 4_000), 8_000)
    os.utime(root / "a.wav", (1, 1))


def moved_and_copied(root: Path) -> None:
    (root / "a.wav").rename(root / "sub" / "other name.wav")
    shutil.copy(root / "b.wav", root / "copy.wav")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: None, []),
        (copied, []),
        (grown, ["1 recording replaced"]),
        (replaced, ["1 recording replaced"]),
        (lambda root: (root / "a.wav").rename(root / "sub" / "a.wav"), ["1 file moved"]),
        (moved_and_copied, ["1 file moved", "1 recording added"]),
        (lambda root: (root / "sub").rename(root / "c"), ["1 file moved"]),
        (lambda root: [path.unlink() for path in (root / "a.wav", root / "b.wav")], ["2 recordings removed"]),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_file_changes(
    recordings: list[Path], tmp_path: Path, change: Callable[[Path], object], said: list[str], known: bool
) -> None:
    before = file_states(recordings)
    prints = {os.fspath(path): fingerprint(path) for path in recordings}
    if not known:
        before = dict.fromkeys(before, (-1, -1))  # of an earlier version, which stored fingerprints only
        said = [] if change is grown else said
    change(tmp_path)
    found, moved = file_changes(before, file_states(sorted(tmp_path.rglob("*.wav"))), prints)
    if change is grown and not known:
        return  # another fingerprint, since the recording is shorter than what is compared
    assert found == said
    assert len(moved) == sum(text == "1 file moved" for text in said)


A = Clip(Path("/r/a.wav"), labels=("x",), group="a.wav")
B = Clip(Path("/r/b.wav"), 1.0, 2.0, ("y",), group="b.wav")
C = Clip(Path("/r/c.wav"), labels=("y", "x"), group="site1")
BEFORE = {"train": [A, B], "val": [], "held_out": [C]}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (BEFORE, []),
        ({"train": [B, A], "val": [], "held_out": [C]}, []),
        ({**BEFORE, "train": [replace(A, labels=("y",)), B]}, ["1 label changed"]),
        ({**BEFORE, "train": [replace(A, secondary=("y",)), B]}, ["1 label changed"]),
        ({**BEFORE, "held_out": [replace(C, labels=("x", "y"))]}, ["1 label changed"]),
        ({**BEFORE, "train": [A, replace(B, onset_s=1.5)]}, ["1 clip with other times"]),
        ({**BEFORE, "train": [A, B, replace(B, onset_s=1.5)]}, ["1 clip added"]),
        ({**BEFORE, "held_out": [replace(C, group="site2")]}, ["1 clip in another group"]),
        ({"train": [A], "val": [B], "held_out": [C]}, ["1 clip in another part (training, validation, held out)"]),
        ({"train": [replace(A, labels=("y",))], "val": [B], "held_out": [C]}, ["1 label changed"]),
        ({**BEFORE, "held_out": []}, []),  # the recording is counted by file_changes
    ],
)
def test_clip_changes(now: dict[str, list[Clip]], said: list[str]) -> None:
    assert clip_changes(BEFORE, now, {}) == said


def test_labels_of_moved_recordings_are_compared() -> None:
    moved = replace(A, path=Path("/r/y/a.wav"), group="y/a.wav")
    place = {"/r/a.wav": "/r/y/a.wav"}
    assert clip_changes(BEFORE, {**BEFORE, "train": [moved, B]}, place) == []
    assert clip_changes(BEFORE, {**BEFORE, "train": [replace(moved, labels=("y",)), B]}, place) == ["1 label changed"]
