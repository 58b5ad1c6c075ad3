"""Engines: slicing into batches, validation of input and output, and the lowered network."""

import keras
import numpy as np
import pytest
import tolerances

from birdnet_fs import models, schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.engine import Engine, lowered_network, network_features

SPEC = schema.FrontEnd(
    sample_rate_hz=8_000, segment_s=0.5, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
)
CLASSES = ("a", "b", "c")


def noise(n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, SPEC.n_samples)).astype(np.float32)


def test_engine_slices_and_checks():
    sizes = []

    def forward(waveforms):
        sizes.append(len(waveforms))
        return waveforms[:, :3]

    engine = Engine(CLASSES, SPEC, "sigmoid", "x", forward)
    waveforms = noise(7)
    np.testing.assert_array_equal(engine.logits(waveforms, batch_size=3), waveforms[:, :3])
    assert sizes == [3, 3, 1]
    assert engine.logits(waveforms[:0]).shape == (0, 3)
    with pytest.raises(UserError, match=r"must be \[n, 4000\]. Received shape: \[7, 3999\]"):
        engine.logits(waveforms[:, 1:])
    waveforms[3, 5] = np.nan
    with pytest.raises(UserError, match="NaN or infinite"):
        engine.logits(waveforms)
    broken = Engine(CLASSES, SPEC, "sigmoid", "x", lambda w: np.full((len(w), 3), np.inf, np.float32))
    with pytest.raises(UserError, match="logits of the model hold NaN or infinity"):
        broken.logits(noise(1))


def test_lowered_network_has_the_logits_and_the_current_weights_of_the_model():
    keras.utils.set_random_seed(2)
    model = models.build("cnn/tiny", input_shape=(*SPEC.shape, 1), n_classes=3)
    features = network_features(noise(4), SPEC)
    assert features.shape == (4, *SPEC.shape, 1)
    for _ in range(2):
        wanted = model.predict(features, verbose=0)
        found = lowered_network(model)(features)
        assert found.dtype == np.float32 and np.ptp(wanted) > 100 * tolerances.ENGINE_LOGITS
        np.testing.assert_allclose(found, wanted, atol=tolerances.ENGINE_LOGITS)
        for variable in model.trainable_variables:
            variable.assign(variable.value * 1.1)
