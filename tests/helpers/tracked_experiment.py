"""A small experiment for tests of trackers."""

from pathlib import Path

from birdnet_fs.core.settings import override
from birdnet_fs.schema import Checkpoints, Data, Experiment, FrontEnd, Model, Training

SPEC = FrontEnd(segment_s=1.0, sample_rate_hz=16_000, n_mels=16, fmin_hz=300.0, fmax_hz=8_000.0, normalize="z_score")


def experiment(recordings: Path, *settings: str) -> Experiment:
    return override(
        Experiment(
            name="watched",
            data=Data(root=str(recordings), table="metadata.csv", audio="audio", where="set=aviary", split="70/15/15"),
            frontend=SPEC,
            model=Model("cnn/tiny"),
            training=Training(epochs=2, batch_size=8, threads=1, checkpoints=Checkpoints(n_best=1)),
        ),
        settings,
    )
