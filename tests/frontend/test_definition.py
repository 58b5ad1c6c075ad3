"""Definitions of front-ends: shapes, kept frames, steps and their order."""

import dataclasses

import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend import preset
from birdnet_fs.frontend.definition import STEPS, apply_steps, define


def test_definition_is_cached_and_has_the_shape_of_its_front_end():
    spec = preset("echo_engine")
    definition = define(spec, spec.n_samples)
    assert define(dataclasses.replace(spec), spec.n_samples) is definition
    assert definition.shape == spec.shape and definition.steps == ("compress", "keep", "resize", "normalise")
    assert (definition.n_frames, definition.kept_frames) == (1201, (0, 1200, 0, 0))
    assert definition.resize_frames.shape == (260, 1200) and definition.resize_bands is None
    np.testing.assert_allclose(definition.resize_frames.sum(axis=1), 1)


def test_short_waveforms_get_zero_frames_on_the_chosen_side():
    for keep_from, expected in (("start", (0, 11, 0, 9)), ("center", (0, 11, 4, 5))):
        spec = dataclasses.replace(preset("cnn_32k"), keep_frames=20, keep_from=keep_from)
        assert define(spec, 10 * spec.hop_length).kept_frames == expected


def test_bands_without_any_fft_bin_are_refused():
    spec = dataclasses.replace(preset("cnn_32k"), fmin_hz=1001.0, fmax_hz=1010.0)
    with pytest.raises(UserError, match=r"at least one FFT bin; bins are 31.25 Hz apart. Received: \(1001.0, 1010.0\)"):
        define(spec, spec.n_samples)


def test_apply_steps_calls_the_given_steps_in_order():
    spec = preset("cnn_32k")
    definition = define(spec, spec.n_samples)
    called = []
    steps = {name: lambda x, definition, ops, name=name: called.append(name) or x + 1 for name in STEPS}
    assert apply_steps(0, definition, np, steps) == len(definition.steps)
    assert tuple(called) == definition.steps == ("compress", "normalise")
