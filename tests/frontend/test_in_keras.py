"""Features in a Keras network against in_numpy, and the layer as a part of a network."""

import keras
import numpy as np
import pytest
import reference_frontend as reference
import tolerances
from reference_frontend import only_decibels
from signals import SPECTRUM, sounds

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend import PRESETS, in_keras, preset
from birdnet_fs.frontend.in_numpy import log_mel

ALL = pytest.mark.parametrize("spec", PRESETS.values(), ids=PRESETS)


@pytest.mark.shared
@ALL
@pytest.mark.parametrize("transform", ["rfft", "dft"])
def test_real_segments_agree_with_in_numpy_in_decibels(spec, transform, shared_data):
    bare, unit = only_decibels(spec)
    x = reference.real_segments(shared_data, 4, sample_rate_hz=spec.sample_rate_hz, duration_s=spec.segment_s)
    in_graph = keras.ops.convert_to_numpy(in_keras.log_mel(x, bare, transform))
    in_one_part = transform == "dft" and spec.top_db and spec.compression != "pcen"
    limit = tolerances.FRONTEND_DFT_DB if in_one_part else tolerances.FRONTEND_DB
    assert np.abs(in_graph - log_mel(x, bare)).max() * unit <= limit


@ALL
@pytest.mark.parametrize("transform", ["rfft", "dft"])
def test_features_agree_with_in_numpy(spec, transform):
    x = sounds(spec, 3)
    features = keras.ops.convert_to_numpy(in_keras.log_mel(x, spec, transform))
    assert features.dtype == np.float32
    limit = tolerances.FRONTEND_FLOAT64 if transform == "rfft" else tolerances.FRONTEND_FLOAT32[spec.preset]
    assert np.abs(features - log_mel(x, spec)).max() <= limit


@pytest.mark.parametrize("transform", ["rfft", "dft"])
def test_power_spectra_agree_with_in_numpy(transform):
    x = sounds(SPECTRUM, 3)
    got, expected = keras.ops.convert_to_numpy(in_keras.log_mel(x, SPECTRUM, transform)), log_mel(x, SPECTRUM)
    assert got.shape == expected.shape == (3, 65, 2049)
    assert np.abs(got - expected).max() <= tolerances.SPECTRUM * expected.max()
    quiet = np.log(got[expected > 1e-9]) - np.log(expected[expected > 1e-9])  # 150 dB below the largest
    assert np.abs(quiet).max() <= tolerances.SPECTRUM_LOG


def test_wrong_shapes_are_refused():
    with pytest.raises(UserError, match="Received shape"):
        in_keras.log_mel(np.zeros((1, 2, 3), np.float32), preset("panns"))
    with pytest.raises(UserError, match="513 samples or more"):
        in_keras.log_mel(np.zeros((1, 512), np.float32), preset("panns"))


def test_layer_adds_no_weights_and_stays_float32():
    spec = preset("birdnet_3s_48k")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = in_keras.FrontEndLayer(spec, "rfft", name="frontend")
    finally:
        keras.config.set_dtype_policy("float32")
    x = sounds(spec, 2)
    features = layer(x)
    assert not layer.weights and keras.backend.standardize_dtype(features.dtype) == "float32"
    assert np.abs(keras.ops.convert_to_numpy(features) - log_mel(x, spec)).max() <= tolerances.FRONTEND_FLOAT64
    import torch

    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = layer(x)
    assert np.array_equal(keras.ops.convert_to_numpy(again), keras.ops.convert_to_numpy(features))
    twin = in_keras.FrontEndLayer.from_config(layer.get_config())
    assert twin.spec == spec and twin.transform == "rfft"


def test_layer_computes_its_output_shape_and_refuses_other_transforms():
    spec = preset("panns")
    layer = in_keras.FrontEndLayer(spec)
    assert layer.compute_output_shape((3, spec.n_samples)) == layer.compute_output_shape((3, None)) == (3, *spec.shape)
    assert layer.compute_output_shape((None, 32_000)) == (None, 101, 64)
    with pytest.raises(UserError, match=r"transform must be one of rfft, dft, rfft2d\. Received: 'fft'"):
        in_keras.FrontEndLayer(spec, "fft")
