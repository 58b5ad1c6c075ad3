"""The command line as a user meets it: verbs in order, one sentence per fault, the road end to end."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERBS = [
    "quickstart",
    "init",
    "manifest",
    "models",
    "show",
    "train",
    "tune",
    "cv",
    "ensemble",
    "pseudo-label",
    "fewshot-eval",
    "enroll",
    "quantize",
    "evaluate",
    "analyze",
    "export",
    "bench",
]


def birdnet_fs(*arguments: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "birdnet_fs.cli.main", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "KERAS_BACKEND": "torch"}
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, timeout=500)
    assert "Traceback" not in result.stderr, result.stderr
    if check:
        assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def aviary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small aviary, a config.py, and a run and two folds trained for two epochs."""
    from birdnet_fs.data.synthetic.aviary import make_aviary

    folder = tmp_path_factory.mktemp("cli")
    make_aviary(folder / "recordings", n_species=3, clips_per_species=5, n_soundscapes=1, soundscape_s=10.0)
    birdnet_fs("init", cwd=folder)
    settings = ["config.py:aviary", "quick=true", "data.root=recordings"]
    birdnet_fs("cv", *settings, "data.n_folds=2", "data.fold_column=", "-o", "folds", cwd=folder)
    birdnet_fs("train", *settings, "-o", "run", cwd=folder)
    return folder


def test_help_lists_the_verbs_in_the_order_of_the_work(tmp_path: Path) -> None:
    lines = birdnet_fs("--help", cwd=tmp_path).stdout.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line.split() and line.split()[0] in VERBS]
    assert listed == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, tmp_path: Path) -> None:
    assert len(birdnet_fs(verb, "--help", cwd=tmp_path).stdout) > 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "config.py:aviary"], "there is no file 'config.py' here. `birdnet-fs init` writes"),
        (["train", "experiments.py:avairy"], "Did you mean 'aviary'?"),
        (["train", "experiments.py:aviary", "training.epoch=3"], "Did you mean 'training.epochs'?"),
        (["train", "experiments.py:aviary", "frontend=birdclef2052"], "birdclef2025"),
        (["train", "experiments.py:aviary", "data.root=nowhere"], "nowhere"),
        (["train", "experiments.py:aviary", "model=cnn/smal", "data.root=nowhere"], "nowhere"),
        (["train", "broken.py:aviary"], "broken.py could not be run as Python: NameError"),
        (["evaluate", "nowhere"], "nowhere"),
        (["export", "nowhere"], "nowhere"),
        (["analyze", "nowhere", "nowhere", "-o", "tables"], "nowhere"),
        (["manifest", "nowhere"], "nowhere"),
        (["init", "taken"], "exists already"),
        (["train", "experiments.py"], "The experiment is missing; write experiments.py:NAME"),
        (["train", "experiments.py:aviary", "quick=1"], "quick must be true or false. Received: '1'"),
        (["train", "experiments.py:aviary", "--epochs", "3"], "No such option: --epochs. See birdnet-fs train --help."),
        (["train", "experiments.py:aviary", "-o", "broken.py"], "broken.py is a file. Give another folder with -o."),
        (["cv", "experiments.py:aviary", "-o", "broken.py"], "broken.py is a file. Give another folder with -o."),
        (["cv", "experiments.py:aviary", "--seeds", ","], "--seeds must be whole numbers separated by commas"),
        (["evaluate", "aviary.tflite"], "aviary.tflite has no held-out clips; give labeled recordings"),
        (["enroll", "run", "clips", "-o", "new", "training.epochs=3"], "must be data.KEY=VALUE"),
        (["ensemble", "run", "./run", "-o", "new"], "run was given twice"),
    ],
)
def test_a_users_fault_is_one_sentence(arguments: list[str], words: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "birdnet_fs" / "cli" / "starter.py", tmp_path / "experiments.py")
    (tmp_path / "broken.py").write_text("oops\n")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.py").write_text("")
    result = birdnet_fs(*arguments, cwd=tmp_path, check=False)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_cfg_prints_the_resolved_settings_and_trains_nothing(tmp_path: Path) -> None:
    birdnet_fs("init", cwd=tmp_path)
    given = ["config.py:my_recordings", "model=efficientnet_v2", "training.batch_size=32", "debug=true", "--cfg"]
    lines = birdnet_fs("train", *given, cwd=tmp_path).stdout.splitlines()
    assert {"model.name=efficientnet_v2", "training.batch_size=32", "data.limit=1000", "training.epochs=2"} <= set(
        lines
    )
    assert os.listdir(tmp_path) == ["config.py"]


def test_one_root_moves_all_that_is_trained_first() -> None:
    from birdnet_fs.cli.experiment import load_experiment

    moved = load_experiment(f"{ROOT / 'config.py'}:soundscapes", ["data.root=/elsewhere"])
    assert moved.pretrain.data.root == moved.pretrain.pretrain.data.root == moved.data.root == "/elsewhere"
    apart = load_experiment(f"{ROOT / 'config.py'}:soundscapes", ["data.root=/elsewhere", "pretrain.data.root=/other"])
    assert apart.pretrain.data.root == "/other" and apart.pretrain.pretrain.data.root == "/elsewhere"


EXPERIMENTS = re.findall(r"^def ([a-z]\w*)\(.*-> Experiment:", (ROOT / "config.py").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_projects_experiments_load(name: str, tmp_path: Path) -> None:
    from birdnet_fs.cli.experiment import load_experiment

    assert load_experiment(f"{ROOT / 'config.py'}:{name}").name == name
    assert load_experiment(f"{ROOT / 'config.py'}:{name}", ["quick=true"]).training.epochs <= 2


def test_a_run_folder_holds_all_there_is_to_know(aviary: Path) -> None:
    run = aviary / "run"
    expected = {"weights.safetensors", "config.json", "classes.txt", "versions.json", "metrics.json", "report.html"}
    assert expected | {"scores.csv", "history.csv", "recordings.csv"} <= set(os.listdir(run))
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"macro_auroc", "accuracy", "n_scored_classes"} <= set(metrics)
    assert len((run / "history.csv").read_text().splitlines()) == 2  # header and the one epoch of quick


def test_folds_are_kept_and_only_missing_ones_trained(aviary: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in aviary.glob("folds/fold*/weights.safetensors")}
    table = json.loads((aviary / "folds" / "cv.json").read_text())
    assert len(before) == len(table["folds"]) == 2
    held = [
        {line.split(",")[1] for line in path.read_text().splitlines() if line.startswith("held_out")}
        for path in sorted(aviary.glob("folds/fold*/partition.csv"))
    ]
    assert held[0] and held[1] and not held[0] & held[1]
    shutil.rmtree(aviary / "folds" / "fold1")
    again = ["config.py:aviary", "quick=true", "data.root=recordings", "data.n_folds=2", "data.fold_column="]
    birdnet_fs("cv", *again, "-o", "folds", cwd=aviary)
    after = {p: p.stat().st_mtime_ns for p in aviary.glob("folds/fold*/weights.safetensors")}
    assert [before[p] == after[p] for p in sorted(before)] == [True, False]
    assert json.loads((aviary / "folds" / "cv.json").read_text()) == table  # the same seed gives the same run


def test_a_run_is_not_replaced_without_a_word(aviary: Path) -> None:
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


def test_tables_of_detections_are_no_labels(aviary: Path) -> None:
    folder = aviary / "beside"
    for label in ("Tremula lenta", "Sibilus aureus"):
        (folder / label).mkdir(parents=True)
        shutil.copy(next((aviary / "recordings" / "audio").iterdir()), folder / label / "a.flac")
    birdnet_fs("analyze", "run", "beside", "-o", "beside", "--rtype", "raven,csv,audacity", "--top_n", "1", cwd=aviary)
    listed = birdnet_fs("manifest", "beside", "-o", "manifest.csv", cwd=aviary)
    assert "folders" in listed.stdout
    assert "Sibilus aureus" in listed.stdout


def test_evaluate_gives_the_metrics_again(aviary: Path) -> None:
    before = json.loads((aviary / "run" / "metrics.json").read_text())
    birdnet_fs("evaluate", "run", cwd=aviary)
    assert json.loads((aviary / "run" / "metrics.json").read_text())["macro_auroc"] == before["macro_auroc"]


def test_analyze_lists_broken_recordings(aviary: Path) -> None:
    (aviary / "field").mkdir()
    for file in sorted((aviary / "recordings" / "audio").iterdir())[:2]:
        shutil.copy(file, aviary / "field")
    (aviary / "field" / "broken.wav").write_bytes(b"<html>")
    birdnet_fs(
        "analyze", "run", "field", "-o", "tables", "--rtype", "csv,raven,audacity", "--min_conf", "0.01", cwd=aviary
    )
    ledger = (aviary / "tables" / "ledger.csv").read_text()
    assert "broken.wav" in ledger
    assert "quarantined" in ledger
    assert len(list((aviary / "tables").rglob("*.selection.table.txt"))) == 2


def test_quickstart_runs_the_whole_road(tmp_path: Path) -> None:
    result = birdnet_fs("quickstart", "--quick", cwd=tmp_path)
    folder = tmp_path / "quickstart"
    assert "report.html" in result.stdout
    assert json.loads((folder / "artifact" / "parity.json").read_text())
    assert list((folder / "artifact").glob("*.tflite"))
    assert list((folder / "artifact").glob("*_Labels.txt"))
    assert list((folder / "analysis").rglob("*.selection.table.txt"))
