"""The example experiments that `birdnet-fs init` writes."""

from birdnet_fs.cli import starter
from birdnet_fs.cli.experiment import load_experiment, load_space


def test_starter_experiments_load_from_their_file() -> None:
    for name in ("my_recordings", "aviary"):
        whole = load_experiment(f"{starter.__file__}:{name}")
        quick = load_experiment(f"{starter.__file__}:{name}", ["quick=true"])
        assert whole.name == name and quick.training.epochs < whole.training.epochs
    assert "training.learning_rate" in load_space("", f"{starter.__file__}:my_recordings").values
