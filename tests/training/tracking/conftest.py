"""Recordings and a tracked run, made anew for every test file."""

from pathlib import Path

import pytest
from tracked_experiment import experiment

from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.reports.held_out import report_on_held_out
from birdnet_fs.training import trainer


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracking") / "aviary"
    make_aviary(folder, n_species=3, clips_per_species=6, n_soundscapes=0)
    return folder


@pytest.fixture(scope="module")
def run(recordings: Path, tmp_path_factory: pytest.TempPathFactory):
    """A run that was tracked in both, and then tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("runs") / "watched"
        (folder / "tensorboard").mkdir(parents=True)
        (folder / "tensorboard" / "events.out.tfevents.0.earlier").write_bytes(b"")
        run = trainer.train(experiment(recordings, "training.track=both"), folder)
        report_on_held_out(run)
        return run
