"""`open_engine`: a run against its Keras model, and what is no model."""

import dataclasses

import keras
import numpy as np
import pytest
import tolerances

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs import run as run_folder

SPEC = schema.FrontEnd(
    sample_rate_hz=8_000, segment_s=0.5, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
)
CLASSES = ("a", "b", "c")


def noise(n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, SPEC.n_samples)).astype(np.float32)


def test_what_is_no_model(tmp_path):
    (tmp_path / "model.h5").touch()
    for name, words in (("absent", "no such file"), ("model.h5", "another kind of file")):
        with pytest.raises(UserError, match=words):
            open_engine(tmp_path / name)
    with pytest.raises(UserError, match="run folder"):
        open_engine(tmp_path)
    with pytest.raises(UserError, match="threads must be 0"):
        open_engine(tmp_path, threads=-1)


@pytest.mark.parametrize(("multi_label", "n_channels"), [(False, 1), (True, 3)])
def test_run_equals_its_keras_model(tmp_path, multi_label, n_channels):
    experiment = schema.Experiment(
        data=schema.Data(multi_label=multi_label),
        frontend=dataclasses.replace(SPEC, n_channels=n_channels),
        model=schema.Model(name="cnn/tiny"),
    )
    keras.utils.set_random_seed(3)
    model = run_folder.build_network(experiment, n_classes=3)
    run_folder.save_run(tmp_path / "run", experiment, CLASSES, run_folder.model_weights(model))

    engine = open_engine(tmp_path / "run", threads=1)
    waveforms = noise(5)
    features = np.stack([np.asarray(log_mel(waveforms, experiment.frontend))] * n_channels, axis=-1)
    wanted = keras.ops.convert_to_numpy(model(features, training=False))
    np.testing.assert_allclose(engine.logits(waveforms, batch_size=2), wanted, atol=tolerances.ENGINE_LOGITS)
    assert np.ptp(wanted) > 100 * tolerances.ENGINE_LOGITS  # the comparison can fail
    assert (engine.classes, engine.sample_rate_hz, engine.segment_s) == (CLASSES, 8_000, 0.5)
    assert engine.activation == ("sigmoid" if multi_label else "softmax")
    assert engine.identity == open_engine(tmp_path / "run").identity
