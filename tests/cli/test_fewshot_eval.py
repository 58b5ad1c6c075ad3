"""`birdnet-fs fewshot-eval`: accuracies of a run with random weights, and wrong arguments."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from birdnet_fs.cli.main import app
from birdnet_fs.core.errors import UserError


def fewshot_eval(*arguments: object) -> str:
    return CliRunner().invoke(app, ["fewshot-eval", *map(str, arguments)], catch_exceptions=False).stdout


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("owl", "wren", "tit"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for i in range(4):
            soundfile.write(tmp_path / "clips" / name / f"{i}.wav", rng.normal(0, 0.1, 8_000), 8_000)
    return tmp_path / "clips"


def test_accuracies_are_printed_and_written(untrained: Path, clips: Path, tmp_path: Path) -> None:
    options = ["--ways", 3, "--shots", "1,2", "--queries", 1, "--episodes", 20, "-o", tmp_path / "found.json"]
    out = fewshot_eval(untrained, clips, *options)
    assert "3-way 1-shot" in out and "3-way 2-shot" in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert {row["n_shot"] for row in found["results"]} == {1, 2}
    assert all(0 <= row["accuracy"] <= 1 for row in found["results"])


def test_classes_and_shots_without_enough_clips_are_named(untrained: Path, clips: Path, tmp_path: Path) -> None:
    (clips / "tit" / "3.wav").unlink()
    options = ["--ways", 2, "--shots", "1,2,9", "--queries", 2, "--episodes", 20, "-o", tmp_path / "found.json"]
    out = CliRunner().invoke(app, ["fewshot-eval", *map(str, [untrained, clips, *options])], catch_exceptions=False)
    assert "left out of the 2-shot episodes across recordings: tit has 3 clips, fewer than the 4" in out.stderr
    assert "No 9-shot episodes across recordings" in out.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert {row["n_shot"] for row in found["results"]} == {1, 2}
    assert any("tit has 3 clips" in message for message in found["messages"])
    with pytest.raises(UserError, match="No 9-shot episodes across recordings"):
        fewshot_eval(untrained, clips, "--ways", 2, "--shots", 9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{clips}", "--shots", "1;5"], "--shots must be whole numbers separated by commas"),
        (["{clips}", "training.epochs=3"], r"must be data\.KEY=VALUE"),
        (["nowhere"], "nowhere does not exist"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], words: str, untrained: Path, clips: Path) -> None:
    with pytest.raises(UserError, match=words):
        fewshot_eval(untrained, *[a.format(clips=clips) for a in arguments])
