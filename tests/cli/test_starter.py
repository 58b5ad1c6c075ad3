"""The example experiments that `birdnet-fs init` writes."""

import csv
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from command_line import birdnet_fs

from birdnet_fs.cli import starter
from birdnet_fs.cli.experiment import load_experiment, load_space
from birdnet_fs.data.synthetic.aviary import make_aviary


def test_starter_experiments_load_from_their_file() -> None:
    for name in ("my_recordings", "aviary"):
        whole = load_experiment(f"{starter.__file__}:{name}")
        quick = load_experiment(f"{starter.__file__}:{name}", ["quick=true"])
        assert whole.name == name and quick.training.epochs < whole.training.epochs
    assert "training.learning_rate" in load_space("", f"{starter.__file__}:my_recordings").values


def folder_of_each_species(recordings: Path, folder: Path, n: int) -> Path:
    """Copy n recordings of each species of an aviary into one folder per species."""
    with open(recordings / "metadata.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "aviary"]
    for species in {row["label"] for row in rows}:
        (folder / species).mkdir(parents=True)
        for row in [row for row in rows if row["label"] == species][:n]:
            shutil.copy(recordings / "audio" / row["filename"], folder / species)
    return folder


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (3, "The number of folds is 3, not 5 (data.n_folds)"),
        (2, "The number of folds is 2, not 5 (data.n_folds)"),
        (1, "Nothing is held out: none of the 3 classes has two recordings"),
    ],
)
def test_first_commands_of_the_readme_accept_few_recordings(aviary: Path, tmp_path: Path, n: int, message: str) -> None:
    folder_of_each_species(aviary / "recordings", tmp_path / "recordings", n)
    birdnet_fs("init", cwd=tmp_path)
    short = ["training.epochs=1", "training.min_steps=2", "training.batch_size=4", "training.schedule.warmup_epochs=0"]
    result = birdnet_fs("train", "config.py:my_recordings", "data.root=recordings", *short, cwd=tmp_path)
    assert message in result.stderr
    run = tmp_path / "runs" / "my_recordings"
    with open(run / "partition.csv", encoding="utf-8", newline="") as file:
        parts = Counter(row["part"] for row in csv.DictReader(file))
    assert parts == ({"train": 3 * (n - 1), "held_out": 3} if n > 1 else {"train": 3})
    assert (run / "report.html").exists() == (n > 1)
    if n > 1:
        assert "Every class has one clip here (n = 1)" in result.stderr
        assert "Every class has one clip here (n = 1)" in (run / "report.html").read_text(encoding="utf-8")


def learned(folder: Path, seed: int) -> int:
    """Train by the README's words and count the recordings of FOLDER/others that are named right."""
    before = os.times()
    birdnet_fs("train", "config.py:my_recordings", "data.root=recordings", f"seed={seed}", "-o", f"{seed}", cwd=folder)
    after = os.times()
    assert after.children_user - before.children_user < 1200  # ten minutes on two cores
    birdnet_fs("evaluate", f"{seed}", "others", "-o", f"{seed}-others", cwd=folder)
    metrics = json.loads((folder / f"{seed}-others" / "metrics.json").read_text(encoding="utf-8"))
    return round(metrics["accuracy"] * metrics["n_segments"])


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_starter_learns_eight_species_of_the_aviary_from_three_recordings(tmp_path: Path) -> None:
    make_aviary(tmp_path / "aviary", n_species=8, clips_per_species=5, n_soundscapes=0)
    folder_of_each_species(tmp_path / "aviary", tmp_path / "others", 5)
    for path in folder_of_each_species(tmp_path / "aviary", tmp_path / "recordings", 3).rglob("*.flac"):
        (tmp_path / "others" / path.parent.name / path.name).unlink()
    birdnet_fs("init", cwd=tmp_path)
    assert learned(tmp_path, 0) >= 8  # of 16; chance is 2


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.timeout(14400)
def test_starter_learns_eight_species_from_three_recordings(shared_data: Path, tmp_path: Path) -> None:
    """The first eight species of birds10, their first three recordings, tested on both recordings of split=test."""
    with open(shared_data / "metadata.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "birds10"]
    for species in sorted({row["label"] for row in rows})[:8]:
        for part, split, n in (("recordings", "train", 3), ("others", "test", 2)):
            (tmp_path / part / species).mkdir(parents=True)
            for row in [row for row in rows if row["label"] == species and row["split"] == split][:n]:
                shutil.copy(shared_data / "audio" / row["filename"], tmp_path / part / species)
    birdnet_fs("init", cwd=tmp_path)
    right = [learned(tmp_path, seed) for seed in range(5)]
    assert np.mean(right) >= 7, right  # of 16; chance is 2
