"""`birdnet-fs show augment` as a user meets it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from birdnet_fs.cli.main import app
from birdnet_fs.core.errors import UserError

CONFIG = """
from birdnet_fs.frontend import preset
from birdnet_fs.schema import Data, Experiment
def mine() -> Experiment:
    return Experiment(name="mine", data=Data(root="recordings", fold=-1), frontend=preset("birdnet_3s_48k"))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("config.py").write_text(CONFIG)
    for name in ("owl", "wren"):
        Path("recordings", name).mkdir(parents=True)
        soundfile.write(f"recordings/{name}/a.wav", np.random.default_rng(0).normal(0, 0.1, 48_000), 48_000)
    return tmp_path


def test_show_draws_clips_without_training(here: Path) -> None:
    settings = ["augmentation.pitch.p=1", "augmentation.time_masks.n=2"]
    command = ["show", "augment", "config.py:mine", *settings, "-o", "page.html", "--clips", "2", "--n_draws", "3"]
    CliRunner().invoke(app, command, catch_exceptions=False)
    html = Path("page.html").read_text()
    assert html.count(" semitones") == 2 * 3 and html.count("data:image/png") == 2 * 2 * 3
    assert sorted(p.name for p in here.iterdir()) == ["config.py", "page.html", "recordings"]


def test_show_default_file_and_user_errors(here: Path) -> None:
    CliRunner().invoke(app, ["show", "augment", "config.py:mine", "--n_draws", "1"], catch_exceptions=False)
    assert Path("mine_augment.html").is_file()
    for command, words in (
        (["show", "augmentation", "config.py:mine"], "Did you mean 'augment'?"),
        (["show", "augment", "config.py:mine", "augmentation.pich.p=1"], "Did you mean 'augmentation.pitch.p'?"),
        (["show", "augment", "config.py:mine", "data.root=nowhere"], "nowhere"),
    ):
        with pytest.raises(UserError, match=words):
            CliRunner().invoke(app, command, catch_exceptions=False)
