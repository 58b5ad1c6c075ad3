"""A run without clips."""

from pathlib import Path

import pytest

from birdnet_fs import schema
from birdnet_fs.runs.run import Run, build_network, model_weights, save_run

SPEC = schema.FrontEnd(
    sample_rate_hz=8_000, segment_s=1.0, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of two classes with random weights, without a partition and without scores."""
    experiment = schema.Experiment(frontend=SPEC, model=schema.Model("cnn/tiny"))
    return save_run(tmp_path / "run", experiment, ("a", "b"), model_weights(build_network(experiment, 2)))
