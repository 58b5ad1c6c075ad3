"""Commands that a signal stops while they work: nothing half-written, no process left, and the same command goes on."""

import functools
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
from command_line import birdnet_fs
from interrupted import cpu_s, interrupt
from killed import contents

from birdnet_fs.runs.run import load_run

CONFIG = """
from dataclasses import replace

from birdnet_fs.schema import Data, Episodes, Experiment, FrontEnd, Model, Schedule, Training


def small() -> Experiment:
    return Experiment(
        name="small",
        data=Data(root="recordings", n_folds=2),
        frontend=FrontEnd(
            sample_rate_hz=8_000, segment_s=1.0, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
        ),
        model=Model("cnn/tiny", dropout=0.2),
        training=Training(epochs=2, batch_size=8, schedule=Schedule(warmup_epochs=0), threads=1),
    )


def episodes() -> Experiment:
    return replace(
        small(),
        data=Data(root="recordings", split="classes"),
        model=Model("cnn/tiny", head="prototypes", dropout=0.0),
        episodes=Episodes(n_way=2, n_shot=1, n_query=1, n_train=3, n_val=0, n_test=0),
    )


def pretrained() -> Experiment:
    return replace(small(), pretrain=replace(small(), name="before", training=replace(small().training, epochs=60)))
"""
# parts of the CPU time that the whole command takes
MOMENTS = (0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config.py, four classes of four recordings, and 40 recordings of 30 s."""
    folder = tmp_path_factory.mktemp("signals")
    (folder / "config.py").write_text(CONFIG)
    rng = np.random.default_rng(0)
    for i in range(4):
        (folder / "recordings" / f"class{i}").mkdir(parents=True)
        for n in range(4):
            sound = 0.1 * np.sin(2 * np.pi * (500 + 800 * i) * np.arange(12_000) / 8_000) + rng.normal(0, 0.01, 12_000)
            soundfile.write(folder / "recordings" / f"class{i}" / f"{n}.wav", sound, 8_000)
    (folder / "long").mkdir()
    for n in range(40):
        soundfile.write(folder / "long" / f"{n}.wav", rng.normal(0, 0.01, 240_000), 8_000)
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    birdnet_fs("train", "config.py:small", "-o", "run", cwd=place)
    return place / "run"


def exists(file: Path) -> Callable[["subprocess.Popen[str]"], bool]:
    return lambda _: file.exists()


@pytest.mark.slow
def test_interrupted_cross_validation_keeps_its_folds_and_goes_on(place: Path) -> None:
    folder = place / "folds"
    command = ["cv", "config.py:small", "training.epochs=60", "-o", folder]
    done = interrupt(*command, cwd=place, when=exists(folder / "fold1" / "history.csv"))
    assert done.returncode == 128 + signal.SIGTERM
    assert f"batches) are a run folder: {folder / 'fold1' / 'interrupted'}" in done.stderr
    assert load_run(folder / "fold1" / "interrupted").build_model().count_params() > 0
    assert not (folder / "fold1" / "config.json").exists() and not (folder / "cv.json").exists()
    first = contents(folder / "fold0")
    assert {"metrics.json", "report.html", "weights.safetensors"} <= set(first)
    birdnet_fs(*command, cwd=place)
    assert contents(folder / "fold0") == first
    assert (folder / "cv.json").is_file() and not (folder / "fold1" / "interrupted").exists()


TRAININGS = {  # command without -o -> settings, files in the output folder: of a training at work; of one that is kept
    "self-distillation": (
        ["train", "config.py:small", "distillation.teacher=self", "distillation.rounds=2"],
        "generations/1",
        "generations/0",
    ),
    "after self-distillation": (["train", "config.py:small", "distillation.teacher=self"], "", "generations/0"),
    "episodes": (["train", "config.py:episodes"], "", ""),
    "pretraining": (["train", "config.py:pretrained"], "", "pretrain"),
    "quantize": (["quantize", "run"], "", ""),
    "pseudo-label": (["pseudo-label", "run", "long", "--rounds", 2], "round2/run", "round1/run"),
}


@pytest.fixture(scope="module")
def undisturbed(place: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The output of a training of TRAININGS that nothing stopped."""

    @functools.cache
    def made(name: str) -> Path:
        folder = tmp_path_factory.mktemp("undisturbed") / "run"
        birdnet_fs(*TRAININGS[name][0], "training.epochs=60", "-o", folder, cwd=place)
        return folder

    return made


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", TRAININGS)
def test_interrupted_training_saves_its_weights_and_goes_on_to_the_undisturbed_run(
    name: str,
    workers: int,
    number: signal.Signals,
    place: Path,
    run: Path,
    undisturbed: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    command, at_work, kept = TRAININGS[name]
    folder = tmp_path / "run"
    command = [*command, "training.epochs=60", f"training.workers={workers}", "-o", folder]
    done = interrupt(*command, cwd=place, when=exists(folder / at_work / "history.csv"), number=number)
    assert done.returncode == 128 + number
    interrupted = folder / at_work / "interrupted"
    assert f"batches) are a run folder: {interrupted}" in done.stderr
    assert load_run(interrupted).build_model().count_params() > 0
    assert not (folder / at_work / "config.json").exists()
    before = (folder / kept / "weights.safetensors").read_bytes() if kept else b""
    assert bool(kept) == bool(before)
    assert (folder / at_work / "unfinished" / "state" / "state.json").is_file()
    birdnet_fs(*command, cwd=place)
    if kept:
        assert (folder / kept / "weights.safetensors").read_bytes() == before
    for part in {at_work, ""} if name != "pseudo-label" else {at_work}:
        expected = undisturbed(name) / part / "weights.safetensors"
        assert (folder / part / "weights.safetensors").read_bytes() == expected.read_bytes()
    assert not interrupted.exists()


class Command(NamedTuple):
    """Arguments but -o; names of the outputs that are only there, or only complete, during or after an interruption."""

    arguments: list[object]
    unfinished: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()  # times of day, durations, divisions into parts


COMMANDS = {
    "analyze": Command(["analyze", "run", "long"], unfinished=("ledger.csv",)),
    "embed": Command(["embed", "run", "long"], unfinished=("ledger.csv",), differing=("parts/",)),
    "pseudo-label": Command(["pseudo-label", "run", "long"], unfinished=("parts/",)),
    "evaluate": Command(["evaluate", "run", "recordings"]),
    "enroll": Command(["enroll", "run", "recordings"]),
    "ensemble": Command(["ensemble", "run", "second"]),
    "motifs": Command(
        ["motifs", "extract", "long", "--feature", "logmel", "--cens-sr", 20, "--mp-window", 20],
        unfinished=("ledger.csv",),
    ),
    "export": Command(["export", "run", "--n_segments", 30], differing=("run_card.md",)),  # measured speed
    "cv": Command(
        ["cv", "config.py:small"],
        unfinished=("fold0/interrupted/", "fold1/interrupted/"),
        differing=("fold0/history.csv", "fold1/history.csv", "fold0/scores.json", "fold1/scores.json"),
    ),
}


@pytest.fixture(scope="module")
def second(place: Path) -> Path:
    birdnet_fs("train", "config.py:small", "seed=1", "-o", "second", cwd=place)
    return place / "second"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COMMANDS)
def test_interrupted_command_leaves_nothing_half_written(
    name: str, place: Path, run: Path, second: Path, tmp_path: Path
) -> None:
    """Stopped at several moments: what is there is a part of the whole, and the same command completes it."""
    command, output, used = COMMANDS[name], tmp_path / "out", [0.0]
    birdnet_fs(*command.arguments, "-o", tmp_path / "first", cwd=place)  # compiles what is not compiled yet
    whole = interrupt(*command.arguments, "-o", output, cwd=place, when=lambda process: measured(process, used) < 0)
    expected = contents(output)
    n_stopped = 0
    for moment in MOMENTS:
        shutil.rmtree(output, ignore_errors=True)
        done = interrupt(
            *command.arguments, "-o", output, cwd=place, when=lambda p, m=moment: cpu_s(p.pid) >= m * used[0]
        )
        n_stopped += done.returncode != 0
        left = contents(output)
        assert {file for file in left if left[file] != expected.get(file)} <= of(
            left, command.unfinished + command.differing
        )
        again = birdnet_fs(*command.arguments, "-o", output, cwd=place)
        assert again.stdout == whole.stdout
        now, free = contents(output), of([*contents(output), *expected], command.differing)
        assert {file for file in {*now, *expected} if now.get(file) != expected.get(file)} <= free
    assert n_stopped >= 3


def measured(process: "subprocess.Popen[str]", used: list[float]) -> float:
    """The CPU seconds of a process, of which the largest is kept."""
    used[0] = max(used[0], cpu_s(process.pid))
    return used[0]


def of(files: Iterable[str], beginnings: tuple[str, ...]) -> set[str]:
    return {file for file in files if file.startswith(beginnings)}
