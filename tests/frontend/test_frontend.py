"""The package's `log_mel`: names of presets, and no batch axis for one waveform."""

import subprocess
import sys

import numpy as np
import pytest
from signals import sounds

import birdnet_fs
from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend import in_numpy, log_mel, preset


def test_import_loads_no_heavy_library():
    code = (
        "import sys; import birdnet_fs.frontend, birdnet_fs.frontend.in_numpy;"
        "print([m for m in ('torch', 'keras', 'tensorflow', 'librosa', 'scipy', 'numba') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["birdclef2025", "panns"])
def test_log_mel_has_no_batch_axis_for_one_waveform(name):
    spec = preset(name)
    x = sounds(spec, 2)
    expected = in_numpy.log_mel(x, spec)
    for given in (name, spec):
        assert np.array_equal(log_mel(x, given), expected)
        assert np.array_equal(log_mel(x[0], given), expected[0]) and expected[0].shape == spec.shape
        assert log_mel(x[:1], given).shape == (1, *spec.shape)


def test_log_mel_of_a_list_is_that_of_its_array():
    assert np.array_equal(log_mel([0.5] * 1024, "panns"), log_mel(np.full(1024, 0.5), "panns"))


def test_log_mel_is_in_the_package_namespace():
    x = sounds(preset("panns"), 1, 32_000)[0]
    assert birdnet_fs.log_mel is log_mel
    assert birdnet_fs.log_mel(x, "panns").shape == (101, 64)


def test_log_mel_refuses_unknown_presets_and_bad_waveforms():
    with pytest.raises(UserError, match="Did you mean 'panns'"):
        log_mel(np.zeros(32_000, np.float32), "pans")
    with pytest.raises(UserError, match="513 samples or more"):
        log_mel(np.zeros(512, np.float32), "panns")
