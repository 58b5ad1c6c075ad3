"""One contract over every preset: shape, agreement with librosa, hard cases, independence of the batch, errors."""

import keras
import numpy as np
import pytest
import reference_frontend as reference
import tolerances
from signals import hard_cases, sounds

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend import PRESETS, in_keras, preset
from birdnet_fs.frontend.definition import define
from birdnet_fs.frontend.in_numpy import log_mel, log_mel_reference
from birdnet_fs.schema import FrontEnd

ALL = pytest.mark.parametrize("spec", PRESETS.values(), ids=PRESETS)


@ALL
def test_features_have_shape_dtype_and_librosas_values(spec):
    x = sounds(spec, 2)
    features = log_mel(x, spec)
    assert features.shape == (2, *spec.shape) and features.dtype == np.float32
    for row, segment in zip(features, x, strict=True):
        assert np.abs(row - reference.features(segment, spec)).max() <= tolerances.FRONTEND_FLOAT64
    assert np.abs(features - log_mel_reference(x, spec)).max() <= tolerances.FRONTEND_FLOAT64


@ALL
def test_hard_cases_give_finite_features(spec):
    cases = hard_cases(spec)
    for name, x in cases.items():
        features = log_mel(x, spec)[0]
        assert np.isfinite(features).all(), name
        if name in ("clipping", "impulse"):
            difference = np.abs(features - reference.features(x, spec)).max()
            assert difference <= tolerances.FRONTEND_HARD_CASES, name
    silence = log_mel(cases["silence"], spec)
    if spec.normalize_when == "clip":  # the shortest clip, unchanged since it is constant, and padding
        n_frames = 1 + spec.min_samples // spec.hop_length
        assert not silence[:, n_frames:].any()
        silence = silence[:, :n_frames]
    assert silence.min() == silence.max()
    for transform in ("rfft", "dft"):
        in_graph = keras.ops.convert_to_numpy(in_keras.log_mel(np.stack(list(cases.values())), spec, transform))
        assert np.isfinite(in_graph).all()


@ALL
def test_features_do_not_depend_on_the_batch(spec):
    x = sounds(spec, 4)
    alone = log_mel(x[1], spec)[0]
    other = np.stack([x[0] * 0.01, x[1], x[3] * 3])
    assert np.array_equal(log_mel(x, spec)[1], alone)
    assert np.array_equal(log_mel(other, spec)[1], alone)
    for transform in ("rfft", "dft"):
        first, second = (
            keras.ops.convert_to_numpy(in_keras.log_mel(batch[:2], spec, transform))[1] for batch in (x, other)
        )
        assert np.array_equal(first, second)


@ALL
def test_other_lengths_agree_with_librosa(spec):
    for n_samples in (spec.n_samples + 777, max(spec.min_samples, spec.n_samples // 4)):
        x = sounds(spec, 1, n_samples)
        expected = reference.features(x[0], spec)
        assert np.abs(log_mel(x, spec)[0] - expected).max() <= tolerances.FRONTEND_FLOAT64
        in_graph = keras.ops.convert_to_numpy(in_keras.log_mel(x, spec))[0]
        assert np.abs(in_graph - expected).max() <= tolerances.FRONTEND_FLOAT64


@ALL
def test_waveforms_shorter_than_one_frame_are_refused(spec):
    with pytest.raises(UserError, match=f"{spec.min_samples} samples or more"):
        define(spec, spec.min_samples - 1)
    assert np.isfinite(log_mel(np.zeros(spec.min_samples, np.float32), spec)).all()


def test_unknown_preset_message_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'birdclef2025'"):
        preset("birdclef")


def test_settings_round_trip_through_json():
    for spec in PRESETS.values():
        assert FrontEnd.from_artifact(spec.to_artifact()) == spec
    with pytest.raises(UserError, match="n_mels"):
        FrontEnd.from_artifact({"n_mel": 3})
