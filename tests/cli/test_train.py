"""`birdnet-fs train`: run folders, existing runs, settings and suggestions."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from command_line import birdnet_fs

from birdnet_fs.cli.train import advice, headline, refuse_unfinished
from birdnet_fs.core.errors import UserError


@pytest.mark.parametrize(("auroc", "given"), [(0.49, True), (0.599, True), (0.6, False), (0.98, False), (None, False)])
def test_advice_is_given_near_chance_level(auroc: float | None, given: bool) -> None:
    sentence = advice({"macro_auroc": auroc, "accuracy": 0.1})
    assert bool(sentence) is given
    assert not given or ("near chance level" in sentence and "training.learning_rate" in sentence)


def test_advice_is_empty_for_runs_in_episodes() -> None:
    assert advice({"test_acc": 0.2}) == ""


def test_headline_names_undefined_metrics() -> None:
    assert headline({"macro_auroc": None, "accuracy": 0.5}) == "macro_auroc undefined  accuracy 0.5000"


def test_refuse_unfinished_names_the_last_checkpoint(tmp_path: Path) -> None:
    refuse_unfinished(tmp_path)
    last = tmp_path / "checkpoints" / "last"
    last.mkdir(parents=True)
    (last / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds checkpoints of an unfinished training; .*model\.weights="):
        refuse_unfinished(tmp_path)


def test_cfg_prints_the_resolved_settings_without_training(tmp_path: Path) -> None:
    birdnet_fs("init", cwd=tmp_path)
    given = ["config.py:my_recordings", "model=efficientnet_v2", "training.batch_size=32", "debug=true", "--cfg"]
    lines = birdnet_fs("train", *given, cwd=tmp_path).stdout.splitlines()
    assert {"model.name=efficientnet_v2", "training.batch_size=32", "data.limit=1000", "training.epochs=2"} <= set(
        lines
    )
    assert os.listdir(tmp_path) == ["config.py"]


def test_run_folder_has_all_files(aviary: Path) -> None:
    run = aviary / "run"
    expected = {"weights.safetensors", "config.json", "classes.txt", "versions.json", "metrics.json", "report.html"}
    assert expected | {"scores.csv", "history.csv", "recordings.csv"} <= set(os.listdir(run))
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"macro_auroc", "accuracy", "n_scored_classes"} <= set(metrics)
    assert len((run / "history.csv").read_text().splitlines()) == 2  # header and the one epoch of quick


def test_existing_runs_are_kept_or_refused(aviary: Path) -> None:
    weights = aviary / "run" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    same = ["train", "config.py:aviary", "quick=true", "data.root=recordings", "-o", "run"]
    kept = birdnet_fs(*same, "training.threads=1", cwd=aviary)
    assert "already holds this run" in kept.stderr
    refused = birdnet_fs(*same, "seed=5", cwd=aviary, check=False)
    assert refused.returncode == 2
    assert "other settings (seed=42, not 5); give another folder with -o, or --overwrite" in refused.stderr
    several = birdnet_fs(*same, "seed=5", "training.epochs=3", "model.dropout=0.5", cwd=aviary, check=False)
    assert re.search(r"\(seed=42, not 5; 2 more\)", several.stderr)
    assert weights.stat().st_mtime_ns == before
    (aviary / "broken").mkdir()
    shutil.copy(aviary / "run" / "config.json", aviary / "broken")
    broken = birdnet_fs(*same[:-1], "broken", cwd=aviary, check=False)
    assert broken.returncode == 2
    assert re.search(r"cannot be read \(.*classes.txt.*\); give another folder with -o", broken.stderr)
