"""`birdnet-fs enroll`: new classes on a run with random weights, and wrong arguments."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from birdnet_fs.cli.main import app
from birdnet_fs.core.errors import UserError
from birdnet_fs.runs.run import load_run


def enroll(*arguments: object) -> str:
    return CliRunner().invoke(app, ["enroll", *map(str, arguments)], catch_exceptions=False).stdout


@pytest.fixture
def support(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("owl/1.wav", "owl/2.wav", "tit/4.wav", "wren/3.wav"):
        (tmp_path / "support" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "support" / name, rng.normal(0, 0.1, 8_000), 8_000)
    return tmp_path / "support"


def test_enrolled_classes_form_a_new_run(untrained: Path, support: Path, tmp_path: Path) -> None:
    assert enroll(untrained, support, "-o", tmp_path / "new", "--no-unknown").startswith("3 classes: owl, tit, wren")
    enroll(tmp_path / "new", "-o", tmp_path / "less", "--remove", "owl", "--no-unknown")
    assert tuple(load_run(tmp_path / "less").classes) == ("tit", "wren")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{support}"], "The output folder is missing"),
        (["-o", "{tmp}/new"], "Nothing to do"),
        (["{support}", "training.epochs=3", "-o", "{tmp}/new"], "must be data.KEY=VALUE"),
        (["{support}", "-o", "{run}"], "already holds a run"),
        (["{tmp}/nowhere", "-o", "{tmp}/new"], "nowhere does not exist"),
        (["{support}", "-o", "{tmp}/new", "--background", "{tmp}/untrained"], "--background must be a folder with"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], words: str, untrained: Path, support: Path, tmp_path: Path
) -> None:
    filled = [a.format(support=support, tmp=tmp_path, run=untrained) for a in arguments]
    with pytest.raises(UserError, match=words):
        enroll(untrained, *filled)
