"""Weights of unfinished trainings; existing runs: tests/cli/test_train.py, killed ones: ../test_callbacks.py."""

from pathlib import Path

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.schema import Experiment
from birdnet_fs.training.resume.existing import check_unfinished


@pytest.mark.parametrize("name", ["checkpoints/last", "interrupted"])
def test_weights_of_another_unfinished_training_are_not_replaced(tmp_path: Path, name: str) -> None:
    check_unfinished(tmp_path, Experiment())
    left = tmp_path / name
    left.mkdir(parents=True)
    (left / "config.json").write_text("{}")
    with pytest.raises(UserError, match=rf"an unfinished training with other settings .*model\.weights={left}"):
        check_unfinished(tmp_path, Experiment())
