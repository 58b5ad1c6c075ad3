"""`birdnet-fs quantize`: resolved settings and wrong output folders."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from birdnet_fs.cli.main import app
from birdnet_fs.core.errors import UserError


def quantize(*arguments: object) -> str:
    return CliRunner().invoke(app, ["quantize", *map(str, arguments)], catch_exceptions=False).stdout


def test_cfg_prints_the_quantized_experiment(untrained: Path) -> None:
    done = CliRunner().invoke(app, ["quantize", str(untrained), "training.epochs=7", "--cfg"])
    assert isinstance(done.exception, UserError)  # the run has no recordings: training refuses it, too
    lines = done.stdout.splitlines()
    assert {"model.quantized=true", f"model.weights={untrained}", "training.epochs=7"} <= set(lines)


def test_output_folder_is_required_and_differs_from_the_run(untrained: Path) -> None:
    with pytest.raises(UserError, match="The output folder is missing"):
        quantize(untrained)
    with pytest.raises(UserError, match="is the float run itself"):
        quantize(untrained, "-o", untrained)
