"""A trained run, two folds and an untrained run, shared by the tests of the verbs."""

from pathlib import Path

import pytest
from command_line import birdnet_fs


@pytest.fixture(scope="session")
def aviary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small aviary, a config.py, and a run and two folds trained for two epochs."""
    from birdnet_fs.data.synthetic.aviary import make_aviary

    folder = tmp_path_factory.mktemp("cli")
    make_aviary(folder / "recordings", n_species=3, clips_per_species=5, n_soundscapes=1, soundscape_s=10.0)
    birdnet_fs("init", cwd=folder)
    settings = ["config.py:aviary", "quick=true", "data.root=recordings"]
    birdnet_fs("cv", *settings, "data.n_folds=2", "data.fold_column=", "-o", "folds", cwd=folder)
    birdnet_fs("train", *settings, "-o", "run", cwd=folder)
    return folder


@pytest.fixture
def untrained(tmp_path: Path) -> Path:
    """A run folder of cnn/tiny with random weights and the classes a and b."""
    from birdnet_fs import schema
    from birdnet_fs.runs import run as run_folder

    spec = schema.FrontEnd(sample_rate_hz=8_000, segment_s=1.0, n_fft=256, win_length=256, n_mels=16, fmax_hz=4_000.0)
    experiment = schema.Experiment(name="untrained", frontend=spec, model=schema.Model("cnn/tiny"))
    weights = run_folder.model_weights(run_folder.build_network(experiment, n_classes=2))
    run_folder.save_run(tmp_path / "untrained", experiment, ("a", "b"), weights)
    return tmp_path / "untrained"
