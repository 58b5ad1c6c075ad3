"""The argument RUN of verbs that also take the file of an encoder: its settings, and wrong files."""

from pathlib import Path

import encoder_runs
import pytest
from installed import need

from birdnet_fs.cli.encoder_base import base_run, check_base, divide_settings
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip

need("onnxruntime")


def test_the_card_is_divided_from_settings_of_recordings(tmp_path: Path) -> None:
    file = tmp_path / "e.onnx"
    assert divide_settings(file, ["data.where=a", "model.encoder_card=perch_v2"]) == ("perch_v2", ["data.where=a"])
    assert divide_settings(tmp_path, ["data.where=a"]) == ("", ["data.where=a"])
    with pytest.raises(UserError, match=r"model\.encoder_card describes the file of an encoder; .* is a run"):
        divide_settings(tmp_path, ["model.encoder_card=perch_v2"])


def test_neither_run_nor_encoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "e.txt").write_text("x")
    with pytest.raises(UserError, match=r"must be a \.tflite or \.onnx file"):
        check_base(tmp_path / "e.txt", "")
    with pytest.raises(UserError, match="there is no such folder"):
        check_base(tmp_path / "nothing", "")


def test_the_base_of_an_encoder_lasts_as_long_as_the_command(tmp_path: Path) -> None:
    file, card = encoder_runs.write_encoder(tmp_path)
    root = encoder_runs.write_recordings(tmp_path / "recordings", 1)
    with base_run(file, str(card), [Clip(root / "owl" / "owl0.wav")]) as run:
        assert run.path.is_dir() and run.experiment.model.encoder == str(file)
    assert not run.path.exists()
