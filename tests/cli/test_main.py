"""The command line as users run it: verbs in order, and one sentence per user error."""

import io
import shutil
import sys
from pathlib import Path

import pytest
from audio_files import chirps, write
from command_line import ROOT, birdnet_fs

from birdnet_fs.cli.main import main

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


def test_help_lists_the_verbs_in_order(tmp_path: Path) -> None:
    lines = birdnet_fs("--help", cwd=tmp_path).stdout.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ") and line.split() and line.split()[0] in VERBS]
    assert listed == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_text(verb: str, tmp_path: Path) -> None:
    assert len(birdnet_fs(verb, "--help", cwd=tmp_path).stdout) > 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "config.py:aviary"], "there is no file 'config.py' here. `birdnet-fs init` writes"),
        (["train", "experiments.py:avairy"], "Did you mean 'aviary'?"),
        (["train", "experiments.py:aviary", "training.epoch=3"], "Did you mean 'training.epochs'?"),
        (["train", "experiments.py:aviary", "frontend=birdclef2052"], "birdclef2025"),
        (["train", "experiments.py:aviary", "data.root=nowhere"], "nowhere"),
        (["train", "experiments.py:aviary", "model=cnn/smal", "data.root=nowhere"], "Did you mean 'cnn/small'?"),
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
        (["ensemble", "run", "./run", "-o", "new"], "A run folder with config.json was expected at run"),
    ],
)
def test_user_errors_are_one_sentence(arguments: list[str], words: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "birdnet_fs" / "cli" / "starter.py", tmp_path / "experiments.py")
    (tmp_path / "broken.py").write_text("oops\n")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.py").write_text("")
    result = birdnet_fs(*arguments, cwd=tmp_path, check=False)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_version_prints_the_version(tmp_path: Path) -> None:
    from birdnet_fs import __version__

    assert birdnet_fs("--version", cwd=tmp_path).stdout.strip() == __version__


def test_class_names_outside_the_code_page_are_printed_escaped(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "in" / "Łabędź").mkdir(parents=True)
    write(tmp_path / "in" / "Łabędź" / "1.wav", chirps(1, 8000), 8000)
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="cp1252", write_through=True))
    monkeypatch.setattr(sys, "argv", ["birdnet-fs", "manifest", str(tmp_path / "in"), "-o", str(tmp_path / "m.csv")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and r"\u0141ab\u0119d\u017a" in printed.getvalue().decode("cp1252")
