"""A Keras model that records the batches of `fit`, and an experiment whose batches use every kind of augmentation."""

import dataclasses
from pathlib import Path

import keras
import numpy as np

from birdnet_fs.core.settings import override
from birdnet_fs.schema import Data, Experiment, FrontEnd, Model, Training

CHANGES = (
    "augmentation.mixup.p=0.5", "augmentation.gain_db=6", "augmentation.noise.p=0.5", "augmentation.shift.p=0.5",
    "augmentation.time_masks.n=1", "augmentation.cutmix.p=0.3", "training.sampling=inverse",
)  # fmt: skip


def experiment(recordings: Path, *settings: str) -> Experiment:
    chosen = Experiment(
        name="fit",
        data=Data(
            root=str(recordings), table="metadata.csv", audio="audio", where="set=aviary", n_folds=5, val_fraction=0.2
        ),
        frontend=FrontEnd(segment_s=3.0, sample_rate_hz=16_000, n_mels=16, fmin_hz=300.0, fmax_hz=8_000.0),
        model=Model("cnn/tiny", dropout=0.2),
        training=Training(epochs=2, batch_size=8, threads=1),
    )
    return override(chosen, settings)


def with_fold(chosen: Experiment, fold: int) -> Experiment:
    return dataclasses.replace(chosen, data=dataclasses.replace(chosen.data, fold=fold))


@keras.saving.register_keras_serializable(package="tests")
class Recorder(keras.Model):
    """Keeps what `fit` gives to each step, as bytes of the arrays."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = self.add_weight(shape=(), name="weight")
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []
        # Keras draws a batch before the first epoch on torch, to build the metric
        metrics = ["mae"] if keras.backend.backend() == "torch" else None
        self.compile("sgd", "mse", metrics=metrics, run_eagerly=True)

    def call(self, x, training=False):
        return keras.ops.mean(x, axis=(1, 2, 3))[:, None] * self.weight

    def train_step(self, *arguments):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(arguments[-1])
        assert sample_weight is None
        self.seen.append((keras.ops.convert_to_numpy(x).copy(), keras.ops.convert_to_numpy(y).copy()))
        return {"loss": 0.0}


def arrays(batches, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches of an epoch by the package itself."""
    return [(np.asarray(x), np.asarray(y)) for x, y, *_ in batches.epoch(epoch)]


def assert_same(found, expected) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype == np.float32
