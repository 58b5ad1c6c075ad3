"""The float32 FFT of exported front-ends in two parts: as accurate as float64 at any level and length."""

import dataclasses

import keras
import numpy as np
import pytest
import tolerances
from signals import hard_cases, short_clips, sounds

from birdnet_fs.frontend import in_keras, preset
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.schema import FrontEnd


def in_graph(x, spec):
    return keras.ops.convert_to_numpy(in_keras.log_mel(x, spec, "dft"))


def tone_over_noise(spec, depth_db):
    """A tone, and noise `depth_db` below it in an FFT bin."""
    t = np.arange(spec.n_samples) / spec.sample_rate_hz
    noise = np.random.default_rng(1).standard_normal(spec.n_samples) * 10 ** (-(depth_db - 25) / 20)
    return (np.sin(2 * np.pi * 1000 * t) + noise).astype(np.float32)


def test_loud_tone_leaves_quiet_bands_accurate():
    spec = preset("panns")
    x = tone_over_noise(spec, 100)
    assert np.abs(in_graph(x, spec) - log_mel(x, spec)).max() <= tolerances.FRONTEND_PARTS_DB
    one_part = dataclasses.replace(spec, top_db=200.0)  # the same range, but computed in one part
    assert np.abs(in_graph(x, one_part) - log_mel(x, spec)).max() > 10 * tolerances.FRONTEND_PARTS_DB


@pytest.mark.parametrize("level", [1e-7, 1.0, 300.0])  # float recordings may exceed +-1
@pytest.mark.parametrize("n_fft", [16, 18, 400, 1026, 4096])  # sums of 4 to 114 terms
def test_any_level_and_even_n_fft_is_accurate(level, n_fft):
    spec = FrontEnd(n_fft=n_fft, win_length=n_fft, hop_length=n_fft // 2, n_mels=8, segment_s=0.5, top_db=0.0)
    x = tone_over_noise(spec, 75) * np.float32(level)
    assert np.abs(in_graph(x, spec) - log_mel(x, spec)).max() <= tolerances.FRONTEND_PARTS_DB


@pytest.mark.parametrize("name", ["animal_spot", "fewshot_pcen"])  # pre-emphasis; PCEN amplifies quiet bands
def test_hard_cases_without_top_db_are_accurate(name):
    spec = preset(name)
    for case in ("silence", "clipping", "impulse"):
        x = hard_cases(spec)[case]
        difference = np.abs(in_graph(x, spec) - log_mel(x, spec)).max()
        assert difference <= tolerances.FRONTEND_FLOAT32[name], case


def test_nan_and_infinity_stay_in_their_segment():
    spec = preset("panns")
    x = sounds(spec, 3, 32_000)
    clean = in_graph(x, spec)
    x[1, 5_000], x[2, 6_000] = np.nan, np.inf
    broken = in_graph(x, spec)
    assert np.array_equal(broken[0], clean[0])
    assert not np.isfinite(broken[1]).all() and not np.isfinite(broken[2]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["birdnet_3s_48k", "animal_spot", "fewshot", "fewshot_pcen"])
def test_onnx_file_agrees_with_in_numpy(name, tmp_path):
    import onnxruntime
    import torch

    spec = preset(name)
    x = np.concatenate([sounds(spec, 2), short_clips(spec)])
    inputs = keras.Input((spec.n_samples,), batch_size=1)
    model = keras.Model(inputs, in_keras.FrontEndLayer(spec, "dft")(inputs)).eval()
    torch.onnx.export(model, (torch.from_numpy(x[:1]),), str(tmp_path / "frontend.onnx"), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "frontend.onnx"))
    given = np.concatenate([session.run(None, {session.get_inputs()[0].name: row[None]})[0] for row in x])
    assert np.abs(given - log_mel(x, spec)).max() <= tolerances.FRONTEND_FLOAT32[name]
