"""The shell scripts of examples/: each names an experiment of config.py and passes every argument on."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from birdnet_fs.cli.experiment import load_experiment

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.sh"))
FAKE = f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\nsys.exit(143)\n"


def test_both_scripts_of_the_document_are_there() -> None:
    assert [script.name for script in SCRIPTS] == ["train_convnext_pretrained.sh", "train_resnet18.sh"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_names_an_experiment_and_passes_arguments_and_status_on(script: Path, tmp_path: Path) -> None:
    (tmp_path / "birdnet-fs").write_text(FAKE)
    (tmp_path / "birdnet-fs").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    given = ["data.root=a folder", "-o", "runs/*", "training.epochs=2"]
    done = subprocess.run([script, *given], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 143, done.stderr
    verb, experiment, *rest = json.loads(done.stdout)
    file, _, name = experiment.rpartition(":")
    assert (verb, rest) == ("train", given) and Path(file).resolve() == ROOT / "config.py"
    assert load_experiment(f"{ROOT / 'config.py'}:{name}").name == name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_sets_nothing_itself(script: Path) -> None:
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail" and len(commands) == 2 and not re.search(r"\w+=\w", commands[1])


def test_scripts_have_no_findings_of_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (apt-get install shellcheck)")
    done = subprocess.run(["shellcheck", *SCRIPTS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
