"""Completion as the shells ask for it: verbs, options, experiments, settings and their values."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ENVIRONMENT, ROOT

from birdnet_fs.cli.completion import experiment_words

FILE = "from experiments.more import other\n\ndef mine() -> Experiment:\n    raise SystemExit\n\ndef no() -> int: ...\n"
MORE = "from birdnet_fs import schema\n\ndef other() -> schema.Experiment: ...\n\ndef _own() -> 'Experiment': ...\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/more.py").write_text(MORE)
    (tmp_path / "config.py").write_text(FILE)
    (tmp_path / "plain.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("def (\n")
    return tmp_path


def completed(text: str, cwd: Path) -> list[str]:
    """Words that zsh is given for a command line; the cursor is at its end."""
    environment = {**os.environ, **ENVIRONMENT, "_TYPER_COMPLETE_ARGS": text, "_BIRDNET_FS_COMPLETE": "complete_fish"}
    environment["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    done = subprocess.run(
        [sys.executable, "-m", "birdnet_fs.cli.main"], env=environment, cwd=cwd, capture_output=True, text=True
    )
    assert not done.stderr, done.stderr
    return [line.split("\t")[0] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("birdnet-fs tu", ["tune"]),
        ("birdnet-fs motifs emb", ["embed"]),
        ("birdnet-fs train --overw", ["--overwrite"]),
        ("birdnet-fs train ", ["config.py:"]),
        ("birdnet-fs train config.py:", ["config.py:mine", "config.py:other"]),
        ("birdnet-fs cv absent.py:", []),
        ("birdnet-fs tune config.py:mine training.prec", ["training.precision="]),
        ("birdnet-fs cache build config.py:mine data.lay", ["data.layout="]),
        ("birdnet-fs train config.py:mine model.head=pro", ["model.head=prototypes", "model.head=probe"]),
        ("birdnet-fs show augment config.py:mine model.name=ghost", ["model.name=ghost"]),
        ("birdnet-fs train config.py:mine training.epochs=", []),
        ("birdnet-fs train config.py:mine no.such=", []),
    ],
)
def test_words(text: str, words: list[str], folder: Path) -> None:
    found = completed(text, folder)
    if words == ["model.name=ghost"]:
        assert found and all(word.startswith(words[0]) for word in found)
    else:
        assert sorted(found) == sorted(words)


def test_config_files_are_not_run(folder: Path) -> None:
    (folder / "config.py").write_text("import sys\nsys.exit(1)\ndef mine() -> Experiment: ...\n")
    assert experiment_words(None, f"{folder}/config.py:") == [f"{folder}/config.py:mine"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_behind_its_signs(folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "birdnet-fs"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m birdnet_fs.cli.main "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, **ENVIRONMENT, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}

    def run(code: str) -> str:
        done = subprocess.run(["bash", "-c", code], env=environment, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    script = run("_BIRDNET_FS_COMPLETE=source_bash birdnet-fs")
    function = script.split("()")[0].strip()
    lines = "".join(
        f"COMP_WORDS=({words}); COMP_CWORD={number}; {function} birdnet-fs; echo ${{COMPREPLY[*]}}\n"
        for words, number in (
            ("birdnet-fs qu", 1),
            ("birdnet-fs train config.py : mi", 4),
            ("birdnet-fs train config.py : mine debug = tr", 7),
        )
    )
    assert run(f"{script}\n{lines}").splitlines() == ["quickstart quantize", "mine", "true"]
