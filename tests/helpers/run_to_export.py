"""A run with random weights that give spread-out logits, for tests of the exporter."""

from pathlib import Path

import keras
import numpy as np

from birdnet_fs import schema
from birdnet_fs.runs.run import Run, build_network, model_weights, save_run

CLASSES = ("Turdus merula_Common Blackbird", "toad", "Parus major_Great Tit")


SPEC = schema.FrontEnd(
    preset="test",
    sample_rate_hz=16_000,
    segment_s=1.0,
    n_fft=512,
    win_length=512,
    hop_length=256,
    n_mels=32,
    fmax_hz=8_000.0,
    normalize="min_max",
    n_channels=2,
)


def make_run(folder: Path, experiment: schema.Experiment, classes: tuple[str, ...]) -> Run:
    """A run with random weights that give spread-out logits."""
    keras.utils.set_random_seed(7)
    random = np.random.default_rng(7)
    weights = model_weights(build_network(experiment, len(classes)))
    for name, value in weights.items():
        if name.endswith(("gamma", "moving_variance")):
            weights[name] = random.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif name.endswith(("beta", "moving_mean", "bias")):
            weights[name] = random.normal(0, 0.1, value.shape).astype(np.float32)
    weights["logits/kernel"] = weights["logits/kernel"] * 5
    return save_run(folder, experiment, classes, weights)
