"""`birdnet-fs train`: run folders, existing runs, settings and suggestions."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from command_line import birdnet_fs, started
from killed import leftovers

from birdnet_fs.cli.train import MAX_CLASS_LINES, advice, class_lines, headline
from birdnet_fs.runs.run import load_run


@pytest.mark.parametrize(("auroc", "given"), [(0.49, True), (0.599, True), (0.6, False), (0.98, False), (None, False)])
def test_advice_is_given_near_chance_level(auroc: float | None, given: bool) -> None:
    sentence = advice({"macro_auroc": auroc, "accuracy": 0.1})
    assert bool(sentence) is given
    assert not given or ("near chance level" in sentence and "training.learning_rate" in sentence)


def test_advice_is_empty_for_runs_in_episodes() -> None:
    assert advice({"test_acc": 0.2}) == ""


def test_headline_names_undefined_metrics() -> None:
    assert headline({"macro_auroc": None, "accuracy": 0.5}) == "macro_auroc undefined  accuracy 0.5000"


def metrics_of(recalls: list[float | None], **others: object) -> dict[str, object]:
    rows = [{"name": f"K{i}", "recall": recall} for i, recall in enumerate(recalls)]
    return {"per_class": rows, "accuracy_is": "share of segments whose highest score is a true class", **others}


def test_accuracy_of_each_class_is_printed_as_in_the_fork_of_animal_spot() -> None:
    assert class_lines(metrics_of([1.0, 0.9808, None])) == ["K0: 100.0%", "K1: 98.1%", "no held-out clip: K2"]


def test_of_many_classes_the_least_accurate_are_printed() -> None:
    lines = class_lines(metrics_of([*[0.9] * MAX_CLASS_LINES, 0.25]))
    assert lines[0] == f"K{MAX_CLASS_LINES}: 25.0%" and len(lines) == MAX_CLASS_LINES + 1
    assert lines[-1] == "1 more classes, all at least as accurate, are in metrics.json and report.html"


def test_recall_of_clips_with_several_labels_is_not_printed_as_accuracy() -> None:
    several = "share of segments whose set of labels is exactly right at a threshold of 0.5"
    assert class_lines(metrics_of([1.0], accuracy_is=several)) == []
    assert class_lines({"test_acc": 0.5, "per_class": [{"name": "K0", "recall": 0.5}]}) == ["K0: 50.0%"]


def test_cfg_prints_the_resolved_settings_without_training(tmp_path: Path) -> None:
    birdnet_fs("init", cwd=tmp_path)
    given = ["config.py:my_recordings", "model=efficientnet_v2", "training.batch_size=32", "debug=true", "--cfg"]
    done = birdnet_fs("train", *given, cwd=tmp_path, check=False)
    assert done.returncode == 2 and "data.root must be a file or folder that exists" in done.stderr
    lines = done.stdout.splitlines()
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


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGTERM, 1),
        pytest.param(signal.SIGUSR1, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 0, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_the_weights_at_the_end_of_the_batch(
    aviary: Path, tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    """Sent to all processes of the command, as clusters and terminals do; the same command then starts anew."""
    command = ["train", "config.py:aviary", "data.root=recordings", "quick=true", f"training.workers={workers}"]
    folder = tmp_path / "run"
    process = started(*command, "training.epochs=500", "-o", folder, cwd=aviary)
    deadline = time.monotonic() + 200
    while not (folder / "history.csv").is_file():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, number)
    sent = time.monotonic()
    _, err = process.communicate(timeout=100)
    assert process.returncode == 128 + number and "Traceback" not in err, err
    assert time.monotonic() - sent < 60  # a guard against waiting for ever; 30 s are promised on an idle machine
    assert f"stopped by {number.name}; the same command continues" in err
    assert f"batches) are a run folder: {folder / 'interrupted'}" in err
    assert load_run(folder / "interrupted").build_model().count_params() > 0
    assert leftovers(tmp_path) == [] and not (folder / "config.json").exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no process of the group is left
