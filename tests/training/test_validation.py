"""Validation after an epoch against scikit-learn on the probabilities of the network."""

from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
import tolerances
from scipy.special import softmax
from sklearn.metrics import log_loss, roc_auc_score

from birdnet_fs import models
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.schema import Experiment, FrontEnd
from birdnet_fs.training.validation import supervised_validation

SPEC = FrontEnd(segment_s=1.0, sample_rate_hz=16_000, n_mels=16, fmax_hz=8_000.0)


def test_validation_columns_are_those_of_scikit_learn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(6):
        soundfile.write(tmp_path / f"{i}.wav", rng.normal(0, 0.1 * (i + 1), 16_000), 16_000, subtype="FLOAT")
    waveforms = Waveforms([Clip(tmp_path / f"{i}.wav") for i in range(6)], 16_000)
    keras.utils.set_random_seed(0)
    model = models.build("cnn/tiny", input_shape=(*SPEC.shape, 1), n_classes=2)
    labels = np.array([0, 1, 0, 1, 1, 0])
    found = supervised_validation(
        model, waveforms, np.eye(2, dtype=np.float32)[labels], Experiment(frontend=SPEC), ("a", "b")
    )()
    features = np.concatenate([log_mel(waveforms[i][None], SPEC) for i in range(6)])
    p = softmax(keras.ops.convert_to_numpy(model(network_input(features, SPEC), training=False)), 1)
    assert found["val_loss"] == pytest.approx(log_loss(labels, p), rel=tolerances.LOSS_OF_SCORES)
    assert found["val_acc"] == np.mean(p.argmax(1) == labels)
    assert found["val_macro_auroc"] == pytest.approx(roc_auc_score(labels, p[:, 1]))
    assert {name for name in found if "/" in name} == {f"val/per_class_accuracy/{name}" for name in "ab"}
