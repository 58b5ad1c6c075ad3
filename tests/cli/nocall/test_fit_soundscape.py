"""`birdnet-fs nocall` as a user runs it, and `analyze --gate` with its model."""

import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from soundscapes import RATE, window, write_soundscapes

from birdnet_fs.cli.main import main


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nocall")
    write_soundscapes(folder / "birdclef-2021", 10, 8)
    rng = np.random.default_rng(5)
    field = np.concatenate([window(rng, call) for call in (True, False, False, True)])
    soundfile.write(folder / "field.wav", field, RATE)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["birdnet-fs", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_cross_validation_prints_what_the_competition_notes_show(tree, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tree)
    command = ["nocall", "fit-soundscape-cv", "--birdclef-root", "birdclef-2021", "cv.txt"]
    assert run(monkeypatch, *command, "--embedding-checkpoint", "logmel", "--dim", 384) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] in ("Early stopping, best iteration is:", "Did not meet early stopping. Best iteration is:")
    assert re.fullmatch(r"\[\d+\]    cv_agg's auc: 1 \+ 0", lines[1])
    assert re.fullmatch(r"best number of iterations: \d+", lines[2]) and lines[3] == "test score: 1.0"
    assert lines[4:] == ["cv.txt", "cv.metadata.json"]
    assert run(monkeypatch, *command) == 2 and "exists already" in capsys.readouterr().err


def test_gate_of_analyze_holds_quiet_windows_back(tree, untrained, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tree)
    fit = ["nocall", "fit-soundscape", "--birdclef-root", "birdclef-2021", "--head", "logistic", "--split", "rows"]
    assert run(monkeypatch, *fit, "single.txt", "--overwrite") == 0
    printed = capsys.readouterr()
    assert "valid_0's auc: 1" in printed.out and "so the scores flatter" in printed.err
    analyze = ["analyze", untrained, "field.wav", "--top_n", "1", "--overlap", "0"]
    starts = {}
    for name, options in (("all", []), ("gated", ["--gate", "single.txt"])):
        assert run(monkeypatch, *analyze, "-o", name, *options) == 0
        with open(f"{name}/field.BirdNET.results.csv", encoding="utf-8", newline="") as file:
            starts[name] = {float(row["Start (s)"]) for row in csv.DictReader(file)}
    assert starts["all"] == set(map(float, range(20)))
    assert starts["gated"] and not starts["gated"] & set(map(float, range(8, 12)))
    assert run(monkeypatch, *analyze, "-o", "x", "--gate_threshold", "0.4") == 2
    assert run(monkeypatch, *analyze, "-o", "x", "--gate", "missing.txt") == 2
    assert "gate must be a file or folder that exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--birdclef-root", "none"], "--birdclef-root must be a folder of labeled soundscapes. Received: none"),
        (["--dim", "64"], "has a width of 384; leave --dim out, or give --dim 384. Received: 64"),
        (["--head", "svm"], "A head must be one of gbm, logistic, mlp. Received: 'svm'"),
        (["--split", "site"], "A split must be by recordings or rows. Received: 'site'"),
        (["model.name=cnn"], "Settings of this command must be data.KEY=VALUE. Received: 'model.name=cnn'"),
    ],
)
def test_wrong_arguments_are_one_sentence(tree, monkeypatch, capsys, options, message) -> None:
    monkeypatch.chdir(tree)
    command = ["nocall", "fit-soundscape", "wrong.txt", "--birdclef-root", "birdclef-2021", *options]
    assert run(monkeypatch, *command) == 2
    assert message in capsys.readouterr().err
    assert not Path("wrong.txt").exists()
